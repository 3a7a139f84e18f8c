//! API keys as they stand in bodies.

use chrono::TimeDelta;
use poem_openapi::{Object, types::Example};
use relaypost_shared::{clock::Timestamp, entities::api_key, ids::ApiKey as ApiKeyKind};
use serde::{Deserialize, Serialize};

use super::store::{Issued, Rotation, words};
use crate::{
    auth::{Scope, prefix_of},
    http::{ApiError, Checks, Moment, Ref, Text, example_id, example_time},
};

const DAY: u32 = 86_400;
const MAX_GRACE: u32 = 7 * DAY;

/// What a key is created from.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewApiKey {
    /// What people call it.
    #[oai(validator(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"
    ))]
    pub(super) name: String,
    /// What it may do.
    #[oai(validator(min_items = 1, unique_items))]
    pub(super) scopes: Vec<Text<Scope>>,
    /// From when on it is refused. Without it the key never expires.
    #[oai(nullable)]
    pub(super) expires_at: Option<Moment>,
}

impl Example for NewApiKey {
    fn example() -> Self {
        Self {
            name: "order service".to_owned(),
            scopes: vec![Text(Scope::Send), Text(Scope::Read)],
            expires_at: None,
        }
    }
}

impl NewApiKey {
    pub(super) fn check(&self, now: Timestamp) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        checks.line("name", &self.name, 1..=200);
        let mut scopes = self.scopes.clone();
        scopes.sort_unstable();
        scopes.dedup();
        checks.require(!scopes.is_empty(), "scopes", || {
            "expected at least one scope".to_owned()
        });
        checks.require(scopes.len() == self.scopes.len(), "scopes", || {
            "a scope is given twice".to_owned()
        });
        check_expiry(&mut checks, self.expires_at, now);
        checks.finish()
    }
}

/// What a platform key is created from.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewPlatformKey {
    /// What people call it.
    #[oai(validator(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"
    ))]
    pub(super) name: String,
    /// From when on it is refused. Without it the key never expires.
    #[oai(nullable)]
    pub(super) expires_at: Option<Moment>,
}

impl Example for NewPlatformKey {
    fn example() -> Self {
        Self {
            name: "on-call operator".to_owned(),
            expires_at: None,
        }
    }
}

impl NewPlatformKey {
    pub(super) fn check(&self, now: Timestamp) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        checks.line("name", &self.name, 1..=200);
        check_expiry(&mut checks, self.expires_at, now);
        checks.finish()
    }
}

fn check_expiry(checks: &mut Checks, at: Option<Moment>, now: Timestamp) {
    checks.require(at.is_none_or(|at| at.0 > now), "expires_at", || {
        "expected a time to come".to_owned()
    });
}

/// How to rotate a key.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct RotateKey {
    /// How many seconds the old key goes on beside the new one: 0 to 604800 (7 days). It never goes on for longer than it
    /// would have without this.
    #[serde(default = "one_day")]
    #[oai(
        default = "one_day",
        validator(minimum(value = "0"), maximum(value = "604800"))
    )]
    grace_period_s: u32,
    /// From when on the new key is refused. Without it: as the old key would have been.
    #[oai(nullable)]
    expires_at: Option<Moment>,
}

impl Example for RotateKey {
    fn example() -> Self {
        Self {
            grace_period_s: DAY,
            expires_at: None,
        }
    }
}

fn one_day() -> u32 {
    DAY
}

impl RotateKey {
    pub(super) fn check(&self, now: Timestamp) -> Result<Rotation, ApiError> {
        let mut checks = Checks::default();
        checks.require(self.grace_period_s <= MAX_GRACE, "grace_period_s", || {
            format!("expected 0 to {MAX_GRACE}")
        });
        check_expiry(&mut checks, self.expires_at, now);
        checks.finish()?;
        Ok(Rotation {
            grace: TimeDelta::seconds(self.grace_period_s.into()),
            expires_at: self.expires_at.map(|at| at.0),
        })
    }
}

/// An API key, without the key itself.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct ApiKey {
    /// Its id.
    id: Ref<ApiKeyKind>,
    /// What people call it.
    name: String,
    /// The beginning of the key, to recognise it by.
    prefix: String,
    /// What it may do.
    scopes: Vec<Text<Scope>>,
    /// When it was created.
    created_at: Moment,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Moment>,
    /// When it was last used, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Moment>,
}

/// An API key with the key itself.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct CreatedApiKey {
    /// The key itself. This is the only time that it is shown.
    key: String,
    #[serde(flatten)]
    #[oai(flatten)]
    about: ApiKey,
}

impl From<api_key::Model> for ApiKey {
    fn from(row: api_key::Model) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            prefix: row.prefix,
            scopes: words(&row.scopes).into_iter().map(Text).collect(),
            created_at: row.created_at.into(),
            expires_at: row.expires_at.map(Text),
            revoked_at: row.revoked_at.map(Text),
            last_used_at: row.last_used_at.map(Text),
        }
    }
}

impl Example for ApiKey {
    fn example() -> Self {
        let new = NewApiKey::example();
        Self {
            id: example_id().into(),
            name: new.name,
            prefix: prefix_of(example_id()),
            scopes: new.scopes,
            created_at: example_time().into(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }
}

impl Example for CreatedApiKey {
    fn example() -> Self {
        Self {
            key: format!(
                "{}_7YtK3hJp0sVd9wQx1zRb5nMf2cGa8eLu4iTo6yWqXvE",
                prefix_of(example_id())
            ),
            about: ApiKey::example(),
        }
    }
}

impl From<Issued> for CreatedApiKey {
    fn from(issued: Issued) -> Self {
        Self {
            key: issued.text,
            about: issued.row.into(),
        }
    }
}

/// A platform key, without the key itself. Its scope is `platform`.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct PlatformKey {
    /// Its id.
    id: Ref<ApiKeyKind>,
    /// What people call it.
    name: String,
    /// The beginning of the key, to recognise it by.
    prefix: String,
    /// When it was created.
    created_at: Moment,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Moment>,
    /// When it was last used, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Moment>,
}

/// A platform key with the key itself.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct CreatedPlatformKey {
    /// The key itself. This is the only time that it is shown.
    key: String,
    #[serde(flatten)]
    #[oai(flatten)]
    about: PlatformKey,
}

impl From<api_key::Model> for PlatformKey {
    fn from(row: api_key::Model) -> Self {
        Self {
            id: row.id.into(),
            name: row.name,
            prefix: row.prefix,
            created_at: row.created_at.into(),
            expires_at: row.expires_at.map(Text),
            revoked_at: row.revoked_at.map(Text),
            last_used_at: row.last_used_at.map(Text),
        }
    }
}

impl From<Issued> for CreatedPlatformKey {
    fn from(issued: Issued) -> Self {
        Self {
            key: issued.text,
            about: issued.row.into(),
        }
    }
}

impl Example for PlatformKey {
    fn example() -> Self {
        Self {
            id: example_id().into(),
            name: NewPlatformKey::example().name,
            prefix: prefix_of(example_id()),
            created_at: example_time().into(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }
}

impl Example for CreatedPlatformKey {
    fn example() -> Self {
        Self {
            key: CreatedApiKey::example().key,
            about: PlatformKey::example(),
        }
    }
}
