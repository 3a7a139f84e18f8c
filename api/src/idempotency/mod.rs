//! `Idempotency-Key`: a request that creates something can be sent again without creating it twice. The row that
//! remembers the answer is written in the transaction that does the work, so that there is never one without the other.
//!
//! A key belongs to its tenant and to the operation with everything that its path names. Operations that take one have no
//! query parameters. Requests are compared byte for byte: who sends one again sends the same bytes.

mod batch;
mod in_flight;
mod known;
mod once;

use bytes::Bytes;
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchema, MetaSchemaRef},
};
use relaypost_shared::ids::TenantId;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::http::{ApiError, Code, parameters::IDEMPOTENCY_KEY};

pub(crate) use batch::{Batch, BatchBegun};
pub(crate) use in_flight::{Held, InFlight, Place, Stage};
pub(crate) use known::{Known, Raced, remember, row};
pub(crate) use once::{Begun, Once};

const MAX_LEN: usize = 255;

/// The request's `Idempotency-Key`, if it has one.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyKey(Option<String>);

/// A key with the request that it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    /// The operation and the key: `POST /v1/messages order-42`.
    key: String,
    /// SHA-256 of the request's body, as it came.
    fingerprint: [u8; 32],
}

impl Keyed {
    /// The number of its lock in PostgreSQL, which everything in the database shares: two keys with the same one would
    /// refuse each other while one is at work, and try again.
    fn lock(&self, tenant: TenantId) -> i64 {
        let digest = Sha256::new()
            .chain_update(tenant.uuid().as_bytes())
            .chain_update(&self.key)
            .finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(first)
    }
}

/// The answer to a request that creates something.
#[derive(Clone, Debug)]
pub(crate) enum Accepted {
    /// The body of the first answer, for which the work was done.
    First(Bytes),
    /// The body of the first answer again.
    Again(Bytes),
}

impl IdempotencyKey {
    /// # Errors
    /// 400 when there are several, or one that is no key.
    fn read(request: &Request) -> Result<Self, ApiError> {
        let mut sent = request.headers().get_all(IDEMPOTENCY_KEY).iter();
        let (first, second) = (sent.next(), sent.next());
        let Some(value) = first else {
            return Ok(Self(None));
        };
        let bytes = value.as_bytes();
        let usable = second.is_none()
            && (1..=MAX_LEN).contains(&bytes.len())
            && bytes.iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(key) if usable => Ok(Self(Some(key.to_owned()))),
            _ => Err(ApiError::new(
                Code::InvalidParameter,
                format!("Idempotency-Key: expected one of 1 to {MAX_LEN} visible ASCII characters"),
            )),
        }
    }

    /// The key of one item of a batch. An item is known again by its place, so that a batch can be sent again as a whole.
    pub(crate) fn item(&self, index: usize) -> Self {
        Self(self.0.as_ref().map(|key| format!("{key}#{index}")))
    }

    /// Takes the place of a request among those with a key that its tenant may have in flight.
    ///
    /// # Errors
    /// 429 when the tenant has as many as it may.
    pub(crate) fn place(
        &self,
        in_flight: &InFlight,
        tenant: TenantId,
    ) -> Result<Option<Place>, ApiError> {
        let place = self.0.as_ref().map(|_| in_flight.place(tenant));
        place.transpose()
    }

    /// Ties the key to an operation, with everything that its path names (`POST /v1/messages`), and a body.
    pub(crate) fn of(self, operation: &str, body: &[u8]) -> Option<Keyed> {
        self.0.map(|key| Keyed {
            key: format!("{operation} {key}"),
            fingerprint: Sha256::digest(body).into(),
        })
    }
}

impl Stage {
    /// What the answer that was looked up leaves to do.
    pub(crate) fn of(answer: &Result<Option<Accepted>, ApiError>) -> Self {
        match answer {
            Ok(None) => Self::Works,
            Ok(Some(_)) | Err(_) => Self::Idle,
        }
    }
}

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = false;
    type ParamType = String;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema {
            min_length: Some(1),
            max_length: Some(MAX_LEN),
            pattern: Some("^[!-~]+$".to_owned()),
            example: Some(json!("order-42")),
            ..MetaSchema::new("string")
        })))
    }

    // Not the framework's header parameter: that one takes a header that it cannot read for one that is not there.
    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        Ok(Self::read(request)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use poem::http::HeaderValue;
    use proptest::prelude::*;
    use relaypost_shared::clock::Clock;

    use super::*;

    /// An operation, a key and a body: few enough of each that two are often the same.
    fn requests() -> impl Strategy<Value = (String, String, Vec<u8>)> {
        let operation = prop_oneof![
            Just("POST /v1/messages".to_owned()),
            Just("POST /v1/messages/batch".to_owned()),
            "[a-z0-9]{1,2}".prop_map(|id| format!("POST /v1/endpoints/{id}/recover")),
        ];
        let key = prop_oneof!["[ab#/]{1,3}", "[!-~]{1,40}"];
        let body = prop_oneof![
            Just(br#"{"n":1}"#.to_vec()),
            Just(br#"{"n": 1}"#.to_vec()),
            prop::collection::vec(any::<u8>(), 0..4),
        ];
        (operation, key, body)
    }

    fn keyed(operation: &str, key: &str, body: &[u8]) -> Keyed {
        let key = IdempotencyKey(Some(key.to_owned()));
        key.of(operation, body).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn two_requests_are_one_only_when_operation_key_and_body_are(
            one in requests(),
            other in requests(),
        ) {
            let (a, b) = (keyed(&one.0, &one.1, &one.2), keyed(&other.0, &other.1, &other.2));
            prop_assert_eq!(a.key == b.key, (&one.0, &one.1) == (&other.0, &other.1));
            prop_assert_eq!(a.fingerprint == b.fingerprint, one.2 == other.2);
            let same = keyed(&one.0, &one.1, &one.2);
            prop_assert_eq!((&same.key, same.fingerprint), (&a.key, a.fingerprint));
            let tenant = TenantId::generate(Clock::system().now());
            prop_assert_eq!(same.lock(tenant), a.lock(tenant));
        }

        #[test]
        fn no_two_items_of_batches_share_a_key(keys in prop::collection::vec("[ab#0-9]{1,4}", 1..6)) {
            let mut items: HashMap<String, (String, usize)> = HashMap::new();
            for key in keys {
                for index in 0..12 {
                    let item = IdempotencyKey(Some(key.clone())).item(index);
                    let item = item.of("POST /v1/messages/batch", b"").unwrap();
                    let this = (key.clone(), index);
                    let seen = items.insert(item.key, this.clone());
                    prop_assert!(seen.is_none_or(|seen| seen == this));
                }
            }
        }

        #[test]
        fn whatever_bytes_a_header_has_it_is_a_key_or_it_is_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else {
                return Ok(());
            };
            let request = Request::builder().header(IDEMPOTENCY_KEY, value).finish();
            let usable = (1..=MAX_LEN).contains(&bytes.len())
                && bytes.iter().all(|byte| (b'!'..=b'~').contains(byte));
            match IdempotencyKey::read(&request) {
                Ok(key) => prop_assert_eq!(key.0.unwrap().into_bytes(), bytes),
                Err(error) => prop_assert!(!usable, "{}", error),
            }
        }
    }
}
