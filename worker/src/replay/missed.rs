//! What an endpoint has missed: messages that it wants and that have no delivery to it.

use relaypost_shared::{
    clock::Timestamp,
    delivery::EndpointStatus,
    entities::endpoint,
    ids::{MessageId, TenantId},
    replay::Missed,
    store::{Replay, replay::missed},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, QueryFilter as _, QuerySelect as _,
    sea_query::LockType,
};

use super::Batch;

/// Where the walk over messages begins.
pub(super) const BEGINNING: MessageId = MessageId::from_uuid(uuid::Uuid::nil());
/// How many messages one batch looks at.
const LOOK: u64 = 1_000;

/// The endpoint, with its lock, so that two jobs cannot make the same delivery. None when it takes no deliveries.
pub(super) async fn endpoint(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    window: &Missed,
) -> Result<Option<endpoint::Model>, DbErr> {
    let found = endpoint::Entity::of_tenant(tenant)
        .filter(endpoint::Column::Id.eq(window.endpoint_id))
        .lock(LockType::NoKeyUpdate)
        .one(tx)
        .await?;
    Ok(found.filter(|endpoint| endpoint.status != EndpointStatus::Disabled))
}

/// Looks at the next messages and makes up to `most` deliveries of those that the endpoint has missed.
pub(super) async fn messages(
    tx: &impl ConnectionTrait,
    job: &mut Replay,
    endpoint: &endpoint::Model,
    window: &Missed,
    most: u64,
    now: Timestamp,
) -> Result<Batch, DbErr> {
    let after = job.message_cursor.unwrap_or(BEGINNING);
    let seen = missed::messages(tx, job.tenant_id, window, after, LOOK, now).await?;
    let known = missed::delivered_to(tx, job.tenant_id, endpoint.id, &seen).await?;
    let mut complete = (seen.len() as u64) < LOOK;
    let mut chosen = Vec::new();
    for message in &seen {
        if chosen.len() as u64 == most {
            complete = false;
            break;
        }
        job.message_cursor = Some(message.id);
        let wanted = endpoint.wants(&message.event_type, &message.channels.0);
        if wanted && !known.contains(&message.id) {
            chosen.push(message);
        }
    }
    missed::deliver(tx, job, endpoint.id, &chosen, now).await?;
    let released = chosen.len() as u64;
    Ok(Batch {
        released,
        found: released,
        complete,
    })
}
