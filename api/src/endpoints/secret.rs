//! Signing secrets, as Standard Webhooks has them: `whsec_` and base64.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    entities::{endpoint, endpoint_secret},
    ids::SecretId,
};
use sea_orm::{
    ColumnTrait as _, DatabaseConnection, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, sea_query::Expr,
};
use serde::{Deserialize, Serialize};

use crate::{
    Services,
    http::{ApiError, Checks, Code, Moment, example_time},
};

const DAY: u32 = 86_400;
const MAX_GRACE: u32 = 7 * DAY;

/// A signing secret.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct EndpointSecret {
    /// `whsec_` and the base64 of 24 random bytes: what a Standard Webhooks library verifies with.
    secret: String,
}

impl Example for EndpointSecret {
    fn example() -> Self {
        Self {
            secret: EXAMPLE.to_owned(),
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
    #[oai(default = "one_day", validator(maximum(value = "604800")))]
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

/// The new secret after a rotation.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct RotatedSecret {
    /// The new secret.
    secret: String,
    /// From when on the old one signs no more.
    previous_expires_at: Moment,
}

impl Example for RotatedSecret {
    fn example() -> Self {
        Self {
            secret: EXAMPLE.to_owned(),
            previous_expires_at: example_time().into(),
        }
    }
}

/// The secret that the Standard Webhooks specification uses in its examples.
pub(super) const EXAMPLE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A new secret of an endpoint.
pub(super) fn generate(endpoint: &endpoint::Model, now: Timestamp) -> endpoint_secret::Model {
    let bytes = rand::random::<[u8; 24]>();
    endpoint_secret::Model {
        id: SecretId::generate(now),
        tenant_id: endpoint.tenant_id,
        endpoint_id: endpoint.id,
        secret: format!("whsec_{}", BASE64_STANDARD.encode(bytes)),
        created_at: now,
        expires_at: None,
    }
}

/// The newest secret.
pub(super) async fn current(
    db: &DatabaseConnection,
    endpoint: &endpoint::Model,
) -> Result<EndpointSecret, ApiError> {
    let newest = endpoint_secret::Entity::find()
        .filter(endpoint_secret::Column::EndpointId.eq(endpoint.id))
        .order_by_desc(endpoint_secret::Column::Id)
        .one(db)
        .await?;
    let newest = newest.ok_or_else(|| ApiError::new(Code::Internal, "no secret is left"))?;
    Ok(EndpointSecret {
        secret: newest.secret,
    })
}

/// Makes a new secret; the one before signs on for `grace`.
pub(super) async fn rotate(
    services: &Services,
    endpoint: &endpoint::Model,
    grace: TimeDelta,
) -> Result<RotatedSecret, ApiError> {
    let now = services.clock.now();
    let (new, expires_at) = (generate(endpoint, now), now + grace);
    let tx = begin_write(&services.db).await?;
    // It also keeps a second rotation waiting until this one is done: else both would leave a secret that never ends.
    endpoint::Entity::update_many()
        .col_expr(endpoint::Column::UpdatedAt, Expr::value(now))
        .filter(endpoint::Column::Id.eq(endpoint.id))
        .exec(&tx)
        .await?;
    endpoint_secret::Entity::update_many()
        .col_expr(endpoint_secret::Column::ExpiresAt, Expr::value(expires_at))
        .filter(endpoint_secret::Column::EndpointId.eq(endpoint.id))
        .filter(endpoint_secret::Column::ExpiresAt.is_null())
        .exec(&tx)
        .await?;
    endpoint_secret::Entity::insert(new.clone().into_active_model())
        .exec_without_returning(&tx)
        .await?;
    tx.commit().await?;
    Ok(RotatedSecret {
        secret: new.secret,
        previous_expires_at: expires_at.into(),
    })
}
