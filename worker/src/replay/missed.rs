//! What an endpoint has missed: messages that it wants and that have no delivery to it.

use std::collections::HashSet;

use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, EndpointStatus},
    entities::{
        Texts, delivery, endpoint,
        message::{self, Column},
        replay,
    },
    ids::{DeliveryId, MessageId, TenantId},
    replay::Missed,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, FromQueryResult,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{ExprTrait as _, LockType},
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

/// What of a message decides whether it was missed.
#[derive(FromQueryResult)]
struct Seen {
    id: MessageId,
    event_type: String,
    channels: Texts,
    deliver_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

/// Looks at the next messages and makes up to `most` deliveries of those that the endpoint has missed.
pub(super) async fn messages(
    tx: &impl ConnectionTrait,
    job: &mut replay::Model,
    endpoint: &endpoint::Model,
    window: &Missed,
    most: u64,
    now: Timestamp,
) -> Result<Batch, DbErr> {
    let seen = look(tx, job, window, now).await?;
    let known = delivered_to(tx, endpoint, &seen).await?;
    let mut complete = (seen.len() as u64) < LOOK;
    let mut made = Vec::new();
    for message in &seen {
        if made.len() as u64 == most {
            complete = false;
            break;
        }
        job.message_cursor = Some(message.id);
        let wanted = endpoint.wants(&message.event_type, &message.channels.0);
        if wanted && !known.contains(&message.id) {
            made.push(delivery_of(message, job, endpoint, now).into_active_model());
        }
    }
    let released = made.len() as u64;
    if released > 0 {
        delivery::Entity::insert_many(made)
            .exec_without_returning(tx)
            .await?;
    }
    Ok(Batch {
        released,
        found: released,
        complete,
    })
}

async fn look(
    tx: &impl ConnectionTrait,
    job: &replay::Model,
    window: &Missed,
    now: Timestamp,
) -> Result<Vec<Seen>, DbErr> {
    message::Entity::of_tenant(job.tenant_id)
        .select_only()
        .columns([
            Column::Id,
            Column::EventType,
            Column::Channels,
            Column::DeliverAt,
            Column::ExpiresAt,
        ])
        // What its sender took back was not missed, and what is too late by now is of no use.
        .filter(Column::CancelledAt.is_null())
        .filter(Column::ExpiresAt.is_null().or(Column::ExpiresAt.gt(now)))
        .filter(Column::Id.gt(job.message_cursor.unwrap_or(BEGINNING)))
        .filter(Column::Id.gte(MessageId::floor(window.since)))
        .filter(Column::Id.lt(MessageId::floor(window.until)))
        .order_by_asc(Column::Id)
        // A cancellation waits for this transaction, and then finds the delivery.
        .lock(LockType::Share)
        .limit(LOOK)
        .into_model()
        .all(tx)
        .await
}

/// Which of the messages have a delivery to the endpoint.
async fn delivered_to(
    tx: &impl ConnectionTrait,
    endpoint: &endpoint::Model,
    seen: &[Seen],
) -> Result<HashSet<MessageId>, DbErr> {
    let known: Vec<MessageId> = delivery::Entity::of_tenant(endpoint.tenant_id)
        .select_only()
        .column(delivery::Column::MessageId)
        .filter(delivery::Column::MessageId.is_in(seen.iter().map(|message| message.id)))
        .filter(delivery::Column::EndpointId.eq(endpoint.id))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(known.into_iter().collect())
}

/// A delivery of the job, in the lane of bulk work from the beginning.
fn delivery_of(
    message: &Seen,
    job: &replay::Model,
    endpoint: &endpoint::Model,
    now: Timestamp,
) -> delivery::Model {
    let later = message.deliver_at.filter(|at| *at > now);
    let id = DeliveryId::generate(now);
    delivery::Model {
        message_id: Some(message.id),
        endpoint_id: Some(endpoint.id),
        next_attempt_at: later,
        expires_at: message.expires_at,
        dispatch_at: Some(later.unwrap_or(now)),
        replayed_at: Some(now),
        replay_id: Some(job.id),
        ..delivery::Model::pending(id, DeliveryKind::Webhook, job.tenant_id, now)
    }
}
