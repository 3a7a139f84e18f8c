//! Signing secrets, as Standard Webhooks has them: `whsec_` and base64 for HMAC, `whsk_` and `whpk_` for the two keys of
//! ed25519.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    delivery::Signing,
    entities::{endpoint, endpoint_secret},
    ids::{EndpointId, SecretId},
    secrets::{Keyring, Place},
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, sea_query::Expr,
};
use serde::{Deserialize, Serialize};

use crate::{
    Services,
    audit::{self, Action},
    auth::may::ForTenant,
    http::{ApiError, Checks, Code, Moment, example_time},
};

/// What stands before the base64 of an ed25519 key pair: 32 bytes of seed and 32 of the public key.
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";
const SEED_LEN: usize = 32;
const DAY: u32 = 86_400;
/// How long the old secret signs on when nobody says otherwise.
pub(super) const GRACE: TimeDelta = TimeDelta::days(1);
const MAX_GRACE: u32 = 7 * DAY;

/// What the receiver of an endpoint's webhooks verifies them with: one of the two.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct VerifyingKey {
    /// When `signing` is `hmac`: `whsec_` and the base64 of 24 random bytes. Whoever has it can sign as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// When `signing` is `ed25519`: `whpk_` and the base64 of the public key. The private key never leaves the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

impl VerifyingKey {
    /// The part of a stored secret that the receiver gets.
    ///
    /// # Errors
    /// 500 when what is stored is no secret.
    pub(super) fn of(stored: &str) -> Result<Self, ApiError> {
        let Some(encoded) = stored.strip_prefix(PRIVATE) else {
            return Ok(Self {
                secret: Some(stored.to_owned()),
                public_key: None,
            });
        };
        let pair = BASE64_STANDARD.decode(encoded).ok();
        let public = pair.as_deref().and_then(|pair| pair.get(SEED_LEN..));
        let public =
            public.ok_or_else(|| ApiError::new(Code::Internal, "the key pair is broken"))?;
        Ok(Self {
            secret: None,
            public_key: Some(format!("{PUBLIC}{}", BASE64_STANDARD.encode(public))),
        })
    }
}

impl Example for VerifyingKey {
    fn example() -> Self {
        Self {
            secret: Some(EXAMPLE.to_owned()),
            public_key: None,
        }
    }
}

/// How to rotate a secret.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub(super) struct RotateSecret {
    /// How many seconds the old secret goes on to sign beside the new one: 0 to 604800 (7 days).
    #[serde(default = "one_day")]
    #[oai(
        default = "one_day",
        validator(minimum(value = "0"), maximum(value = "604800"))
    )]
    grace_period_s: u32,
}

impl Example for RotateSecret {
    fn example() -> Self {
        Self {
            grace_period_s: DAY,
        }
    }
}

fn one_day() -> u32 {
    DAY
}

impl RotateSecret {
    pub(super) fn grace_period(&self) -> Result<TimeDelta, ApiError> {
        let mut checks = Checks::default();
        checks.require(self.grace_period_s <= MAX_GRACE, "grace_period_s", || {
            format!("expected 0 to {MAX_GRACE}")
        });
        checks.finish()?;
        Ok(TimeDelta::seconds(self.grace_period_s.into()))
    }
}

/// The new secret, or the new public key, after a rotation.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct RotatedSecret {
    #[serde(flatten)]
    #[oai(flatten)]
    key: VerifyingKey,
    /// From when on the old one signs no more.
    previous_expires_at: Moment,
}

impl Example for RotatedSecret {
    fn example() -> Self {
        Self {
            key: VerifyingKey::example(),
            previous_expires_at: example_time().into(),
        }
    }
}

/// The secret that the Standard Webhooks specification uses in its examples.
const EXAMPLE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A secret that was just made.
pub(super) struct Generated {
    /// The secret itself.
    secret: String,
    /// Its row, in which it is sealed.
    pub(super) row: endpoint_secret::Model,
}

impl Generated {
    /// What it is verified with.
    ///
    /// # Errors
    /// 500 when it is no secret.
    pub(super) fn verifying_key(&self) -> Result<VerifyingKey, ApiError> {
        VerifyingKey::of(&self.secret)
    }
}

/// A new secret of an endpoint, of the kind that it signs with.
///
/// # Errors
/// 500 when no key pair can be made, or the secret cannot be sealed.
pub(super) fn generate(
    keys: &Keyring,
    endpoint: &endpoint::Model,
    now: Timestamp,
) -> Result<Generated, ApiError> {
    let secret = match endpoint.signing {
        Signing::Hmac => {
            let bytes = rand::random::<[u8; 24]>();
            format!("whsec_{}", BASE64_STANDARD.encode(bytes))
        }
        Signing::Ed25519 => {
            let seed = rand::random::<[u8; SEED_LEN]>();
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
                .map_err(|_| ApiError::new(Code::Internal, "no key pair could be made"))?;
            let both = [&seed, pair.public_key().as_ref()].concat();
            format!("{PRIVATE}{}", BASE64_STANDARD.encode(both))
        }
    };
    let id = SecretId::generate(now);
    let row = endpoint_secret::Model {
        id,
        tenant_id: endpoint.tenant_id,
        endpoint_id: endpoint.id,
        secret: keys.seal(Place::endpoint_secret(id), secret.as_bytes())?,
        created_at: now,
        expires_at: None,
    };
    Ok(Generated { secret, row })
}

/// What the newest secret is verified with.
///
/// # Errors
/// 500 when it cannot be opened.
pub(super) async fn current(
    db: &impl ConnectionTrait,
    keys: &Keyring,
    endpoint: &endpoint::Model,
) -> Result<VerifyingKey, ApiError> {
    let newest = endpoint_secret::Entity::find()
        .filter(endpoint_secret::Column::EndpointId.eq(endpoint.id))
        .order_by_desc(endpoint_secret::Column::Id)
        .one(db)
        .await?;
    let newest = newest.ok_or_else(|| ApiError::new(Code::Internal, "no secret is left"))?;
    VerifyingKey::of(&newest.open(keys)?)
}

/// Makes a new secret; the one before signs on for `grace`.
pub(super) async fn rotate(
    services: &Services,
    caller: &ForTenant,
    endpoint: EndpointId,
    grace: TimeDelta,
) -> Result<RotatedSecret, ApiError> {
    let now = services.clock.now();
    let tx = begin_write(&services.db).await?;
    // It also keeps a second rotation waiting until this one is done: else both would leave a secret that never ends.
    endpoint::Entity::update_many()
        .col_expr(endpoint::Column::UpdatedAt, Expr::value(now))
        .filter(endpoint::Column::TenantId.eq(caller.tenant))
        .filter(endpoint::Column::Id.eq(endpoint))
        .exec(&tx)
        .await?;
    let endpoint = super::find(&tx, caller.tenant, endpoint).await?;
    let keys = &services.settings.keyring;
    let new = replace(&tx, keys, &endpoint, grace, now).await?;
    let action = Action::EndpointSecretRotated;
    audit::record(&tx, caller, action, endpoint.id, now).await?;
    tx.commit().await?;
    Ok(RotatedSecret {
        key: new.verifying_key()?,
        previous_expires_at: (now + grace).into(),
    })
}

/// Gives an endpoint, whose row this transaction holds, a new secret; the one before signs on for `grace`.
///
/// # Errors
/// When the database fails.
pub(super) async fn replace(
    tx: &impl ConnectionTrait,
    keys: &Keyring,
    endpoint: &endpoint::Model,
    grace: TimeDelta,
    now: Timestamp,
) -> Result<Generated, ApiError> {
    let new = generate(keys, endpoint, now)?;
    endpoint_secret::Entity::update_many()
        .col_expr(endpoint_secret::Column::ExpiresAt, Expr::value(now + grace))
        .filter(endpoint_secret::Column::EndpointId.eq(endpoint.id))
        .filter(endpoint_secret::Column::ExpiresAt.is_null())
        .exec(tx)
        .await?;
    endpoint_secret::Entity::insert(new.row.clone().into_active_model())
        .exec_without_returning(tx)
        .await?;
    Ok(new)
}
