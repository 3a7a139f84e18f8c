//! A change of an endpoint: a merge patch.

use poem_openapi::{
    Object,
    types::{Example, MaybeUndefined},
};
use relaypost_shared::{
    clock::Timestamp,
    delivery::{Ordering, Signing},
    entities::{Seconds, Texts, endpoint},
    headers::is_reserved,
    ids::EndpointId,
    secrets::{Keyring, SealError},
    ssrf::Guard,
};
use sea_orm::{ActiveModelTrait as _, Set};
use serde::Deserialize;

use super::rules::{MAX_NAMES, check_description, check_limit, check_timing};
use crate::http::{ApiError, Checks, ExternalId, HeaderMap, Text};

/// What changes about an endpoint. A field that is left out stays as it is.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields, default)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct EndpointChanges {
    /// The id that your product knows it by; null: none.
    #[oai(nullable)]
    external_id: MaybeUndefined<Text<ExternalId>>,
    /// Where webhooks go.
    #[oai(validator(max_length = 2048))]
    pub(super) url: MaybeUndefined<String>,
    /// What people call it; null: nothing.
    #[oai(
        validator(max_length = 1000, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"),
        nullable
    )]
    description: MaybeUndefined<String>,
    /// The event types that it wants; empty: all.
    #[oai(validator(max_items = 500, pattern = r"^[A-Za-z0-9._:/-]{1,200}$"))]
    event_types: MaybeUndefined<Vec<String>>,
    /// The channels that it wants; empty: no matter which.
    #[oai(validator(max_items = 500, pattern = r"^[A-Za-z0-9._:/-]{1,200}$"))]
    channels: MaybeUndefined<Vec<String>>,
    /// Headers of its own, all of them; null: none.
    #[oai(nullable)]
    headers: MaybeUndefined<HeaderMap>,
    /// How long an attempt may take, in milliseconds; null: the service's setting.
    #[oai(validator(minimum(value = "100"), maximum(value = "300000")), nullable)]
    timeout_ms: MaybeUndefined<i32>,
    /// The waits before each retry, in seconds; null: the service's setting.
    #[oai(
        validator(max_items = 50, minimum(value = "0"), maximum(value = "604800")),
        nullable
    )]
    retry_schedule: MaybeUndefined<Vec<u32>>,
    /// How many requests it gets a second at most; null: no limit.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")), nullable)]
    rate_limit_per_s: MaybeUndefined<i32>,
    /// How many requests are under way to it at a time at most; null: the service's setting.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")), nullable)]
    max_in_flight: MaybeUndefined<i32>,
    /// `fifo`: in the order accepted, one at a time; null: as fast as it takes them.
    #[oai(nullable)]
    ordering: MaybeUndefined<Text<Ordering>>,
    /// What its webhooks are signed with. A change makes a new key; the old one signs on beside it for a day, as after a
    /// rotation.
    signing: MaybeUndefined<Text<Signing>>,
}

impl Default for EndpointChanges {
    fn default() -> Self {
        Self {
            external_id: MaybeUndefined::Undefined,
            url: MaybeUndefined::Undefined,
            description: MaybeUndefined::Undefined,
            event_types: MaybeUndefined::Undefined,
            channels: MaybeUndefined::Undefined,
            headers: MaybeUndefined::Undefined,
            timeout_ms: MaybeUndefined::Undefined,
            retry_schedule: MaybeUndefined::Undefined,
            rate_limit_per_s: MaybeUndefined::Undefined,
            max_in_flight: MaybeUndefined::Undefined,
            ordering: MaybeUndefined::Undefined,
            signing: MaybeUndefined::Undefined,
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
    pub(super) fn check(&self, guard: &Guard) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        match &self.url {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => {
                checks.require(false, "url", || "expected a URL, not null".to_owned());
            }
            MaybeUndefined::Value(url) => {
                let target = guard.target(url);
                checks.result("url", target.map_err(|refused| refused.to_string()));
            }
        }
        check_description(&mut checks, self.description.value().map(String::as_str));
        for (path, names) in [
            ("event_types", &self.event_types),
            ("channels", &self.channels),
        ] {
            // Taken for "none" it would make an endpoint that had chosen get everything.
            checks.require(!names.is_null(), path, || {
                "expected a list, not null".to_owned()
            });
            checks.names(path, names.value().map_or(&[], Vec::as_slice), MAX_NAMES);
        }
        if let MaybeUndefined::Value(headers) = &self.headers {
            headers.check(&mut checks, is_reserved);
        }
        let schedule = self.retry_schedule.value().map(Vec::as_slice);
        check_timing(&mut checks, self.timeout_ms.value().copied(), schedule);
        for (path, limit) in [
            ("rate_limit_per_s", &self.rate_limit_per_s),
            ("max_in_flight", &self.max_in_flight),
        ] {
            check_limit(&mut checks, path, limit.value().copied());
        }
        checks.require(!self.signing.is_null(), "signing", || {
            "expected hmac or ed25519, not null".to_owned()
        });
        checks.finish()
    }

    /// The columns of the endpoint `id` that change, or nothing when no field was given. `keys` seal its headers.
    ///
    /// # Errors
    /// When they cannot be sealed.
    pub(super) fn into_changes(
        self,
        id: EndpointId,
        keys: &Keyring,
        now: Timestamp,
    ) -> Result<Option<endpoint::ActiveModel>, SealError> {
        let mut changes: endpoint::ActiveModel = Default::default();
        if let Some(external_id) = cleared_or(self.external_id) {
            changes.external_id = Set(external_id.map(|id| id.0.into_string()));
        }
        if let MaybeUndefined::Value(url) = self.url {
            changes.url = Set(url);
        }
        if let Some(description) = cleared_or(self.description) {
            changes.description = Set(description);
        }
        if let MaybeUndefined::Value(event_types) = self.event_types {
            changes.event_types = Set(Texts(event_types));
        }
        if let MaybeUndefined::Value(channels) = self.channels {
            changes.channels = Set(Texts(channels));
        }
        if let Some(headers) = cleared_or(self.headers) {
            let headers = headers.unwrap_or_default().0;
            changes.headers = Set(endpoint::Model::seal_headers(keys, id, headers)?);
        }
        if let Some(timeout_ms) = cleared_or(self.timeout_ms) {
            changes.timeout_ms = Set(timeout_ms);
        }
        if let Some(schedule) = cleared_or(self.retry_schedule) {
            changes.retry_schedule = Set(schedule.map(Seconds));
        }
        if let Some(limit) = cleared_or(self.rate_limit_per_s) {
            changes.rate_limit_per_s = Set(limit);
        }
        if let Some(limit) = cleared_or(self.max_in_flight) {
            changes.max_in_flight = Set(limit);
        }
        if let Some(ordering) = cleared_or(self.ordering) {
            changes.ordering = Set(ordering.map(|ordering| ordering.0));
        }
        if let MaybeUndefined::Value(signing) = self.signing {
            changes.signing = Set(signing.0);
        }
        if !changes.is_changed() {
            return Ok(None);
        }
        changes.updated_at = Set(now);
        Ok(Some(changes))
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
