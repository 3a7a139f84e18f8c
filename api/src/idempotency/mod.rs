//! `Idempotency-Key`: a request that creates something can be sent again without creating it twice. The row that
//! remembers the answer is written in the transaction that does the work, so that there is never one without the other.
//!
//! A key belongs to its tenant and to the operation with everything that its path names. Operations that take one have no
//! query parameters. Requests are compared byte for byte: who sends one again sends the same bytes.

mod answer;
mod batch;
mod in_flight;
mod once;

use bytes::Bytes;
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSchema, MetaSchemaRef},
};
use relaypost_shared::{clock::Timestamp, ids::TenantId, store::accept::keys};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::http::{
    ApiError, Code,
    declared::{SAFE_TO_REPEAT, TAKES_KEY},
    parameters::IDEMPOTENCY_KEY,
};

pub(crate) use answer::{Holding, again, hold, settled};
pub(crate) use batch::{Batch, BatchBegun};
pub(crate) use in_flight::{Held, InFlight, Place, in_use};
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
    /// The key's name in the store.
    pub(crate) fn name(&self, tenant: TenantId) -> keys::Name<'_> {
        (tenant, &self.key)
    }

    /// The key with the answer that is to be remembered for it until `expires_at`.
    pub(crate) fn remembering(
        &self,
        tenant: TenantId,
        response: Bytes,
        expires_at: Timestamp,
    ) -> keys::Key {
        keys::Key {
            tenant,
            name: self.key.clone(),
            fingerprint: self.fingerprint,
            response,
            expires_at,
        }
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
    /// The schema of the header.
    pub(crate) fn schema() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            min_length: Some(1),
            max_length: Some(MAX_LEN),
            pattern: Some("^[!-~]+$".to_owned()),
            example: Some(json!("order-42")),
            ..MetaSchema::new("string")
        }))
    }

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

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn security_schemes() -> Vec<&'static str> {
        vec![TAKES_KEY]
    }

    // Not the framework's header parameter: that one takes a header that it cannot read for one that is not there.
    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self::read(request)?)
    }
}

/// Declares that an operation may be sent again without a key: done twice, it is done once. An `Idempotency-Key` that comes
/// with it promises nothing that is not kept, and is overlooked. A POST that declares neither this nor an
/// [`IdempotencyKey`] refuses one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SafeToRepeat;

impl<'a> ApiExtractor<'a> for SafeToRepeat {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn security_schemes() -> Vec<&'static str> {
        vec![SAFE_TO_REPEAT]
    }

    async fn from_request(
        _: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use poem::http::HeaderValue;
    use proptest::prelude::*;

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
