//! An endpoint as it stands in bodies.

use poem_openapi::{
    Object,
    types::{Example, MaybeUndefined},
};
use relaypost_shared::{
    clock::Timestamp,
    delivery::EndpointStatus,
    entities::{Seconds, Texts, endpoint},
    ids::{Endpoint as EndpointKind, EndpointId, TenantId},
    settings::Settings,
};
use sea_orm::Set;
use serde::{Deserialize, Serialize};

use super::{secret, url};
use crate::http::{ApiError, Checks, HeaderMap, Moment, Ref, Text, example_id, example_time};

const MAX_NAMES: usize = 500;
const MAX_RETRIES: usize = 50;
const MAX_WAIT_S: u32 = 7 * 86_400;
const TIMEOUT_MS: std::ops::RangeInclusive<i32> = 100..=300_000;

/// What an endpoint is created from.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewEndpoint {
    /// Where webhooks go: an absolute https URL (http only where the service allows it), without user and password.
    #[oai(validator(max_length = 2048))]
    url: String,
    /// What people call it.
    #[oai(validator(max_length = 1000))]
    description: Option<String>,
    /// The event types that it wants. Empty: all.
    #[serde(default)]
    #[oai(default, validator(max_items = 500))]
    event_types: Vec<String>,
    /// It wants only messages that are on one of these channels. Empty: no matter which.
    #[serde(default)]
    #[oai(default, validator(max_items = 500))]
    channels: Vec<String>,
    /// Headers of its own, sent with every request. Up to 20; those that HTTP and Standard Webhooks need are not free.
    #[serde(default)]
    #[oai(default)]
    headers: HeaderMap,
    /// How long an attempt may take, in milliseconds. Without it: the service's setting.
    #[oai(validator(minimum(value = "100"), maximum(value = "300000")))]
    timeout_ms: Option<i32>,
    /// The waits before each retry, in whole seconds, up to 50 of up to 7 days. Without it: the service's setting.
    /// Empty: no retries.
    #[oai(validator(max_items = 50))]
    retry_schedule: Option<Vec<u32>>,
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
    pub(super) fn check(&self, settings: &Settings) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        checks.result("url", url::check(&self.url, &settings.webhooks));
        check_description(&mut checks, self.description.as_deref());
        checks.names("event_types", &self.event_types, MAX_NAMES);
        checks.names("channels", &self.channels, MAX_NAMES);
        self.headers.check(&mut checks, is_reserved);
        check_timing(&mut checks, self.timeout_ms, self.retry_schedule.as_deref());
        checks.finish()
    }

    pub(super) fn into_row(self, tenant: TenantId, now: Timestamp) -> endpoint::Model {
        endpoint::Model {
            id: EndpointId::generate(now),
            tenant_id: tenant,
            url: self.url,
            description: self.description,
            event_types: Texts(self.event_types),
            channels: Texts(self.channels),
            headers: self.headers.0,
            timeout_ms: self.timeout_ms,
            retry_schedule: self.retry_schedule.map(Seconds),
            status: EndpointStatus::Active,
            disabled_reason: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        }
    }
}

/// What changes about an endpoint. A field that is left out stays as it is.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields, default)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct EndpointChanges {
    /// Where webhooks go.
    #[oai(validator(max_length = 2048))]
    url: MaybeUndefined<String>,
    /// What people call it; null: nothing.
    #[oai(validator(max_length = 1000), nullable)]
    description: MaybeUndefined<String>,
    /// The event types that it wants; null or empty: all.
    #[oai(validator(max_items = 500), nullable)]
    event_types: MaybeUndefined<Vec<String>>,
    /// The channels that it wants; null or empty: no matter which.
    #[oai(validator(max_items = 500), nullable)]
    channels: MaybeUndefined<Vec<String>>,
    /// Headers of its own, all of them; null: none.
    #[oai(nullable)]
    headers: MaybeUndefined<HeaderMap>,
    /// How long an attempt may take, in milliseconds; null: the service's setting.
    #[oai(validator(minimum(value = "100"), maximum(value = "300000")), nullable)]
    timeout_ms: MaybeUndefined<i32>,
    /// The waits before each retry, in seconds; null: the service's setting.
    #[oai(validator(max_items = 50), nullable)]
    retry_schedule: MaybeUndefined<Vec<u32>>,
}

impl Default for EndpointChanges {
    fn default() -> Self {
        Self {
            url: MaybeUndefined::Undefined,
            description: MaybeUndefined::Undefined,
            event_types: MaybeUndefined::Undefined,
            channels: MaybeUndefined::Undefined,
            headers: MaybeUndefined::Undefined,
            timeout_ms: MaybeUndefined::Undefined,
            retry_schedule: MaybeUndefined::Undefined,
        }
    }
}

impl Example for EndpointChanges {
    fn example() -> Self {
        Self {
            description: MaybeUndefined::Null,
            event_types: MaybeUndefined::Value(vec!["order.paid".to_owned()]),
            ..Self::default()
        }
    }
}

impl EndpointChanges {
    pub(super) fn check(&self, settings: &Settings) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        match &self.url {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => {
                checks.require(false, "url", || "expected a URL, not null".to_owned());
            }
            MaybeUndefined::Value(url) => {
                checks.result("url", url::check(url, &settings.webhooks));
            }
        }
        check_description(&mut checks, self.description.value().map(String::as_str));
        for (path, names) in [
            ("event_types", &self.event_types),
            ("channels", &self.channels),
        ] {
            checks.names(path, names.value().map_or(&[], Vec::as_slice), MAX_NAMES);
        }
        if let MaybeUndefined::Value(headers) = &self.headers {
            headers.check(&mut checks, is_reserved);
        }
        let schedule = self.retry_schedule.value().map(Vec::as_slice);
        check_timing(&mut checks, self.timeout_ms.value().copied(), schedule);
        checks.finish()
    }

    /// The columns that change.
    pub(super) fn into_changes(self, now: Timestamp) -> endpoint::ActiveModel {
        let mut changes = endpoint::ActiveModel {
            updated_at: Set(now),
            ..Default::default()
        };
        if let MaybeUndefined::Value(url) = self.url {
            changes.url = Set(url);
        }
        if let Some(description) = cleared_or(self.description) {
            changes.description = Set(description);
        }
        if let Some(event_types) = cleared_or(self.event_types) {
            changes.event_types = Set(Texts(event_types.unwrap_or_default()));
        }
        if let Some(channels) = cleared_or(self.channels) {
            changes.channels = Set(Texts(channels.unwrap_or_default()));
        }
        if let Some(headers) = cleared_or(self.headers) {
            changes.headers = Set(headers.unwrap_or_default().0);
        }
        if let Some(timeout_ms) = cleared_or(self.timeout_ms) {
            changes.timeout_ms = Set(timeout_ms);
        }
        if let Some(schedule) = cleared_or(self.retry_schedule) {
            changes.retry_schedule = Set(schedule.map(Seconds));
        }
        changes
    }
}

/// Nothing for a field that was left out, and nothing inside for one that is cleared.
fn cleared_or<T>(field: MaybeUndefined<T>) -> Option<Option<T>> {
    match field {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}

fn check_description(checks: &mut Checks, description: Option<&str>) {
    if let Some(description) = description {
        checks.line("description", description, 0..=1000);
    }
}

fn check_timing(checks: &mut Checks, timeout_ms: Option<i32>, schedule: Option<&[u32]>) {
    let timeout_fits = timeout_ms.is_none_or(|ms| TIMEOUT_MS.contains(&ms));
    checks.require(timeout_fits, "timeout_ms", || {
        format!("expected {} to {}", TIMEOUT_MS.start(), TIMEOUT_MS.end())
    });
    let schedule = schedule.unwrap_or_default();
    checks.require(schedule.len() <= MAX_RETRIES, "retry_schedule", || {
        format!("expected at most {MAX_RETRIES} waits")
    });
    let waits_fit = schedule.iter().all(|seconds| *seconds <= MAX_WAIT_S);
    checks.require(waits_fit, "retry_schedule", || {
        format!("expected waits of 0 to {MAX_WAIT_S} seconds")
    });
}

/// Headers that HTTP, tracing and Standard Webhooks need for themselves.
fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 12] = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "user-agent",
        "traceparent",
    ];
    RESERVED.contains(&name) || name.starts_with("webhook-")
}

/// Where a tenant's webhooks go.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Endpoint {
    /// Its id.
    id: Ref<EndpointKind>,
    /// Where webhooks go.
    url: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The event types that it wants. Empty: all.
    event_types: Vec<String>,
    /// It wants only messages that are on one of these channels. Empty: no matter which.
    channels: Vec<String>,
    /// Headers of its own, sent with every request.
    headers: HeaderMap,
    /// How long an attempt may take, in milliseconds. Without it: the service's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<i32>,
    /// The waits before each retry, in seconds. Without it: the service's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_schedule: Option<Vec<u32>>,
    /// Whether it takes deliveries.
    status: Text<EndpointStatus>,
    /// Why it is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// When it was created.
    created_at: Moment,
    /// When it was last changed.
    updated_at: Moment,
}

impl From<endpoint::Model> for Endpoint {
    fn from(row: endpoint::Model) -> Self {
        Self {
            id: row.id.into(),
            url: row.url,
            description: row.description,
            event_types: row.event_types.0,
            channels: row.channels.0,
            headers: HeaderMap(row.headers),
            timeout_ms: row.timeout_ms,
            retry_schedule: row.retry_schedule.map(|schedule| schedule.0),
            status: row.status.into(),
            disabled_reason: row.disabled_reason,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
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

/// An endpoint with its signing secret.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct CreatedEndpoint {
    /// What its webhooks are signed with: `whsec_…`. It can be read again.
    pub(super) secret: String,
    #[serde(flatten)]
    #[oai(flatten)]
    pub(super) endpoint: Endpoint,
}

impl Example for CreatedEndpoint {
    fn example() -> Self {
        Self {
            secret: secret::EXAMPLE.to_owned(),
            endpoint: Endpoint::example(),
        }
    }
}
