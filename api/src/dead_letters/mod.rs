//! The dead-letter queue: deliveries that were given up, until somebody replays or discards them. Webhooks and emails
//! have the same operations, each under their own path.

mod actions;
mod body;
mod emails;
mod webhooks;

use relaypost_shared::{
    db::Database,
    delivery::DeliveryKind,
    ids::{DeliveryId, TenantId},
    store::{self, read},
};
use sea_orm::DbErr;

pub(crate) use self::{emails::EmailDeadLettersApi, webhooks::WebhookDeadLettersApi};
use crate::{deliveries::Attempt, http::ApiError};

fn not_found() -> ApiError {
    ApiError::not_found("dead letter")
}

/// A tenant's dead letter of one kind.
///
/// # Errors
/// 404 when there is none: no such delivery, another tenant's, of the other kind, or not dead.
async fn find(
    db: &Database,
    tenant: TenantId,
    kind: DeliveryKind,
    id: DeliveryId,
) -> Result<store::Delivery, ApiError> {
    let found = read::dead_letters::find(db, tenant, kind, id).await?;
    found.ok_or_else(not_found)
}

/// Every attempt to deliver one of them, in the order in which they were made.
async fn attempts_of(db: &Database, dead: &store::Delivery) -> Result<Vec<Attempt>, DbErr> {
    let attempts = read::attempts::all(db, dead.tenant_id, dead.id).await?;
    Ok(attempts.into_iter().map(Attempt::from).collect())
}
