//! An endpoint as it stands in bodies.

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    delivery::{EndpointStatus, Ordering, Signing},
    entities::{Seconds, Texts, endpoint},
    headers::is_reserved,
    ids::{Endpoint as EndpointKind, EndpointId, TenantId},
    secrets::Keyring,
    ssrf::Guard,
};
use serde::{Deserialize, Serialize};

use super::{
    circuit::Circuit,
    rules::{MAX_NAMES, check_description, check_limit, check_timing},
    secret::VerifyingKey,
};
use crate::http::{
    ApiError, Checks, ExternalId, HeaderMap, Moment, Ref, Text, example_id, example_time,
};

/// What an endpoint is created from.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewEndpoint {
    /// The id that your product knows it by: up to 255 letters, digits and `._:@-`, beginning with a letter or digit. No
    /// two endpoints of a tenant have the same, without the deleted ones, and ids of Relaypost (`ep_…`) are refused.
    #[oai(nullable)]
    pub(super) external_id: Option<Text<ExternalId>>,
    /// Where webhooks go: an absolute https URL (http only where the service allows it), without user and password.
    #[oai(validator(max_length = 2048))]
    pub(super) url: String,
    /// What people call it.
    #[oai(
        validator(max_length = 1000, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"),
        nullable
    )]
    description: Option<String>,
    /// The event types that it wants. Empty: all.
    #[serde(default)]
    #[oai(
        default,
        validator(max_items = 500, pattern = r"^[A-Za-z0-9._:/-]{1,200}$")
    )]
    event_types: Vec<String>,
    /// It wants only messages that are on one of these channels. Empty: no matter which.
    #[serde(default)]
    #[oai(
        default,
        validator(max_items = 500, pattern = r"^[A-Za-z0-9._:/-]{1,200}$")
    )]
    channels: Vec<String>,
    /// Headers of its own, sent with every request. Up to 20; those that HTTP and Standard Webhooks need are not free.
    #[serde(default)]
    #[oai(default)]
    headers: HeaderMap,
    /// How long an attempt may take, in milliseconds. Without it: the service's setting.
    #[oai(validator(minimum(value = "100"), maximum(value = "300000")), nullable)]
    timeout_ms: Option<i32>,
    /// The waits before each retry, in whole seconds, up to 50 of up to 7 days. Without it: the service's setting.
    /// Empty: no retries.
    #[oai(
        validator(max_items = 50, minimum(value = "0"), maximum(value = "604800")),
        nullable
    )]
    retry_schedule: Option<Vec<u32>>,
    /// How many requests it gets a second at most. Without it: no limit.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")), nullable)]
    rate_limit_per_s: Option<i32>,
    /// How many requests are under way to it at a time at most. Without it: the service's setting.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")), nullable)]
    max_in_flight: Option<i32>,
    /// `fifo`: its messages are delivered in the order accepted, one at a time. Without it: as fast as it takes them.
    #[oai(nullable)]
    ordering: Option<Text<Ordering>>,
    /// What its webhooks are signed with: `hmac`, a secret that both sides have, or `ed25519`, whose public key is all
    /// that the receiver gets. Without it: `hmac`.
    #[oai(nullable)]
    signing: Option<Text<Signing>>,
}

impl Example for NewEndpoint {
    fn example() -> Self {
        Self {
            url: "https://example.com/webhooks".to_owned(),
            description: Some("Order service".to_owned()),
            event_types: vec!["order.created".to_owned(), "order.paid".to_owned()],
            ..Self::default()
        }
    }
}

impl NewEndpoint {
    pub(super) fn check(&self, guard: &Guard) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        checks.result(
            "url",
            guard
                .target(&self.url)
                .map_err(|refused| refused.to_string()),
        );
        check_description(&mut checks, self.description.as_deref());
        checks.names("event_types", &self.event_types, MAX_NAMES);
        checks.names("channels", &self.channels, MAX_NAMES);
        self.headers.check(&mut checks, is_reserved);
        check_timing(&mut checks, self.timeout_ms, self.retry_schedule.as_deref());
        check_limit(&mut checks, "rate_limit_per_s", self.rate_limit_per_s);
        check_limit(&mut checks, "max_in_flight", self.max_in_flight);
        checks.finish()
    }

    /// Its row, whose headers are not sealed yet.
    pub(super) fn into_row(self, tenant: TenantId, now: Timestamp) -> endpoint::Model {
        endpoint::Model {
            id: EndpointId::generate(now),
            tenant_id: tenant,
            external_id: self.external_id.map(|id| id.0.into_string()),
            url: self.url,
            description: self.description,
            event_types: Texts(self.event_types),
            channels: Texts(self.channels),
            headers: self.headers.0,
            timeout_ms: self.timeout_ms,
            retry_schedule: self.retry_schedule.map(Seconds),
            rate_limit_per_s: self.rate_limit_per_s,
            max_in_flight: self.max_in_flight,
            ordering: self.ordering.map(|ordering| ordering.0),
            signing: self.signing.map_or(Signing::Hmac, |signing| signing.0),
            status: EndpointStatus::Active,
            disabled_reason: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }
}

/// Where a tenant's webhooks go.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Endpoint {
    /// Its id.
    id: Ref<EndpointKind>,
    /// The id that your product knows it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// Where webhooks go.
    url: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The event types that it wants. Empty: all.
    event_types: Vec<String>,
    /// It wants only messages that are on one of these channels. Empty: no matter which.
    channels: Vec<String>,
    /// Headers of its own, sent with every request. A key without the scope `manage` sees `[hidden]` as their values;
    /// `[unreadable]` stands for what the service cannot open.
    headers: HeaderMap,
    /// How long an attempt may take, in milliseconds. Without it: the service's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<i32>,
    /// The waits before each retry, in seconds. Without it: the service's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_schedule: Option<Vec<u32>>,
    /// How many requests it gets a second at most. Without it: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_per_s: Option<i32>,
    /// How many requests are under way to it at a time at most. Without it: the service's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<i32>,
    /// `fifo`: its messages are delivered in the order accepted, one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering: Option<Text<Ordering>>,
    /// What its webhooks are signed with.
    signing: Text<Signing>,
    /// Whether it takes deliveries.
    status: Text<EndpointStatus>,
    /// Why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// Whether deliveries go through to it.
    circuit: Circuit,
    /// When it was created.
    created_at: Moment,
    /// When it was last changed.
    updated_at: Moment,
}

/// Of a row whose headers are not sealed.
impl From<endpoint::Model> for Endpoint {
    fn from(row: endpoint::Model) -> Self {
        Self {
            id: row.id.into(),
            external_id: row.external_id,
            url: row.url,
            description: row.description,
            event_types: row.event_types.0,
            channels: row.channels.0,
            headers: HeaderMap(row.headers),
            timeout_ms: row.timeout_ms,
            retry_schedule: row.retry_schedule.map(|schedule| schedule.0),
            rate_limit_per_s: row.rate_limit_per_s,
            max_in_flight: row.max_in_flight,
            ordering: row.ordering.map(Text),
            signing: row.signing.into(),
            status: row.status.into(),
            disabled_reason: row.disabled_reason,
            circuit: Circuit::default(),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        }
    }
}

impl Endpoint {
    /// A stored endpoint as it is shown to a caller that may see secrets, which `keys` open, or may not.
    ///
    /// What cannot be opened is told of in the values' place, so that one endpoint spoils no list.
    pub(super) fn shown(
        row: endpoint::Model,
        circuit: Option<Circuit>,
        keys: Option<&Keyring>,
    ) -> Self {
        let headers = match keys.map(|keys| row.open_headers(keys)) {
            None => HeaderMap(row.headers.clone()).hidden(),
            Some(Ok(headers)) => HeaderMap(headers),
            Some(Err(why)) => {
                tracing::error!(endpoint = %row.id, %why, "the headers of an endpoint cannot be opened");
                HeaderMap(row.headers.clone()).unreadable()
            }
        };
        Self {
            headers,
            circuit: circuit.unwrap_or_default(),
            ..Self::from(row)
        }
    }
}

impl Example for Endpoint {
    fn example() -> Self {
        let row = NewEndpoint::example().into_row(example_id(), example_time());
        endpoint::Model {
            id: example_id(),
            ..row
        }
        .into()
    }
}

/// An endpoint with what its receiver verifies with.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct CreatedEndpoint {
    #[serde(flatten)]
    #[oai(flatten)]
    pub(super) key: VerifyingKey,
    #[serde(flatten)]
    #[oai(flatten)]
    pub(super) endpoint: Endpoint,
}

impl Example for CreatedEndpoint {
    fn example() -> Self {
        Self {
            key: VerifyingKey::example(),
            endpoint: Endpoint::example(),
        }
    }
}
