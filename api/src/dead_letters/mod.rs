//! The dead-letter queue: deliveries that were given up, until somebody replays or discards them. Webhooks and emails
//! have the same operations, each under their own path.

mod actions;
mod body;
mod emails;
mod webhooks;

use relaypost_shared::{
    db::Database,
    delivery::DeliveryKind,
    entities::{attempt, delivery},
    ids::{DeliveryId, TenantId},
};
use sea_orm::{ColumnTrait as _, DbErr, QueryFilter as _, QueryOrder as _, Select};

pub(crate) use self::{emails::EmailDeadLettersApi, webhooks::WebhookDeadLettersApi};
use crate::{deliveries::Attempt, http::ApiError};

fn not_found() -> ApiError {
    ApiError::not_found("dead letter")
}

/// A tenant's dead letters of one kind.
fn of(tenant: TenantId, kind: DeliveryKind) -> Select<delivery::Entity> {
    delivery::Entity::dead_of_tenant(tenant).filter(delivery::Column::Kind.eq(kind))
}

/// One of them.
///
/// # Errors
/// 404 when there is none: no such delivery, another tenant's, of the other kind, or not dead.
async fn find(
    db: &Database,
    tenant: TenantId,
    kind: DeliveryKind,
    id: DeliveryId,
) -> Result<delivery::Model, ApiError> {
    let found = of(tenant, kind).filter(delivery::Column::Id.eq(id));
    found.one(db).await?.ok_or_else(not_found)
}

/// Every attempt to deliver one of them, in the order in which they were made.
async fn attempts_of(db: &Database, dead: &delivery::Model) -> Result<Vec<Attempt>, DbErr> {
    let attempts = attempt::Entity::of_tenant(dead.tenant_id)
        .filter(attempt::Column::DeliveryId.eq(dead.id))
        .order_by_asc(attempt::Column::Number)
        .all(db)
        .await?;
    Ok(attempts.into_iter().map(Attempt::from).collect())
}
