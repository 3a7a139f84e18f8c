//! Stores operator events, which are ordinary messages to some of a tenant's endpoints.
//!
//! Guarantee: an event is stored with all of its deliveries in the transaction of what it tells of, or not at all. The jobs
//! are in the answer; the sweep finds what is not on the queue when the process is killed before it is there.
//!
//! Transition: `accepted` (a delivery begins).

use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _};

use super::{
    Delivery, Message, Payload,
    accept::to_endpoint,
    schema::{delivery, message, payload},
};
use crate::{
    clock::Timestamp,
    entities::Texts,
    ids::{EndpointId, MessageId, TenantId},
    queue::Job,
};

/// A message of Relaypost itself.
#[derive(Clone, Debug)]
pub struct Told {
    /// The tenant whose message it is.
    pub tenant: TenantId,
    /// Its event type.
    pub event_type: &'static str,
    /// Its body.
    pub payload: String,
    /// The endpoints that get it.
    pub endpoints: Vec<EndpointId>,
}

/// Stores messages with a delivery for each of their endpoints, due at once, and returns the jobs, which travel in the lane
/// of live webhooks.
///
/// # Errors
/// When the database fails.
pub async fn accept(
    tx: &impl ConnectionTrait,
    told: Vec<Told>,
    now: Timestamp,
) -> Result<Vec<Job>, DbErr> {
    let (mut messages, mut payloads, mut deliveries) = (Vec::new(), Vec::new(), Vec::new());
    for one in told {
        let message = message_of(&one, now);
        let to = one.endpoints.into_iter();
        deliveries.extend(to.map(|endpoint| to_endpoint(&message, endpoint)));
        let payload = Payload {
            message_id: message.id,
            payload: one.payload.into_bytes(),
        };
        payloads.push(payload.into_active_model());
        messages.push(message.into_active_model());
    }
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    message::Entity::insert_many(messages)
        .exec_without_returning(tx)
        .await?;
    payload::Entity::insert_many(payloads)
        .exec_without_returning(tx)
        .await?;
    let jobs = deliveries.iter().map(Job::of).collect();
    let rows = deliveries.into_iter().map(Delivery::into_active_model);
    delivery::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(jobs)
}

fn message_of(told: &Told, now: Timestamp) -> Message {
    Message {
        id: MessageId::generate(now),
        tenant_id: told.tenant,
        event_type: told.event_type.to_owned(),
        channels: Texts::default(),
        metadata: None,
        request_id: String::new(),
        created_at: now,
        deliver_at: None,
        expires_at: None,
        cancelled_at: None,
        ordering_key: None,
        traceparent: None,
    }
}
