//! Finds the messages of a span of time, and makes deliveries of those that an endpoint has missed.
//!
//! Guarantee: a message that is looked at stays as it is until the transaction ends, so that a cancellation waits and then
//! finds the delivery. The caller holds the endpoint's row, so that two jobs cannot make the same delivery. A delivery
//! needs no job: the dispatcher puts it onto the queue, also when the process is killed after the commit.
//!
//! Transition: `accepted` (a delivery begins).

use std::collections::HashSet;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, FromQueryResult,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    sea_query::{ExprTrait as _, LockType},
};

use crate::{
    clock::Timestamp,
    delivery::DeliveryKind,
    entities::Texts,
    ids::{EndpointId, MessageId, TenantId},
    replay::Missed,
    store::{
        Delivery, Replay,
        accept::new_delivery,
        schema::{
            delivery,
            message::{Column, Entity},
        },
    },
};

/// The parts of a message that decide whether an endpoint has missed it.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Seen {
    /// The message.
    pub id: MessageId,
    /// Its event type.
    pub event_type: String,
    /// Its channels.
    pub channels: Texts,
    deliver_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

/// Reads up to `most` messages of the span that follow `after`, oldest first. Messages that were cancelled or have expired
/// are left out.
///
/// # Errors
/// When the database fails.
pub async fn messages(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    span: &Missed,
    after: MessageId,
    most: u64,
    now: Timestamp,
) -> Result<Vec<Seen>, DbErr> {
    Entity::of_tenant(tenant)
        .select_only()
        .columns([
            Column::Id,
            Column::EventType,
            Column::Channels,
            Column::DeliverAt,
            Column::ExpiresAt,
        ])
        .filter(Column::CancelledAt.is_null())
        .filter(Column::ExpiresAt.is_null().or(Column::ExpiresAt.gt(now)))
        .filter(Column::Id.gt(after))
        .filter(Column::Id.gte(MessageId::floor(span.since)))
        .filter(Column::Id.lt(MessageId::floor(span.until)))
        .order_by_asc(Column::Id)
        .lock(LockType::Share)
        .limit(most)
        .into_model()
        .all(tx)
        .await
}

/// Finds those of the messages that have a delivery to the endpoint, whatever has become of it.
///
/// # Errors
/// When the database fails.
pub async fn delivered_to(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    endpoint: EndpointId,
    seen: &[Seen],
) -> Result<HashSet<MessageId>, DbErr> {
    let known: Vec<MessageId> = delivery::Entity::of_tenant(tenant)
        .select_only()
        .column(delivery::Column::MessageId)
        .filter(delivery::Column::MessageId.is_in(seen.iter().map(|message| message.id)))
        .filter(delivery::Column::EndpointId.eq(endpoint))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(known.into_iter().collect())
}

/// Makes a delivery of each of these messages to the endpoint. They belong to the job, travel in the lane of bulk work, and
/// are due at the time that their senders named, or now.
///
/// # Errors
/// When the database fails.
pub async fn deliver(
    tx: &impl ConnectionTrait,
    job: &Replay,
    endpoint: EndpointId,
    missed: &[&Seen],
    now: Timestamp,
) -> Result<(), DbErr> {
    if missed.is_empty() {
        return Ok(());
    }
    let rows = missed
        .iter()
        .map(|message| delivery_of(message, job, endpoint, now).into_active_model());
    delivery::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await
        .map(|_| ())
}

fn delivery_of(message: &Seen, job: &Replay, endpoint: EndpointId, now: Timestamp) -> Delivery {
    let new = new_delivery(
        DeliveryKind::Webhook,
        job.tenant_id,
        now,
        message.deliver_at,
    );
    Delivery {
        message_id: Some(message.id),
        endpoint_id: Some(endpoint),
        expires_at: message.expires_at,
        // The dispatcher brings it onto the queue, also when it is due now.
        dispatch_at: Some(new.next_attempt_at.unwrap_or(now)),
        replayed_at: Some(now),
        replay_id: Some(job.id),
        ..new
    }
}
