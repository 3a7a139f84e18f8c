//! Operator events: what Relaypost has to say about endpoints and deliveries, sent as ordinary messages to those of the
//! tenant's endpoints that name the event's type.
//!
//! They are written in the transaction of what they tell of, so each is told once: who comes second changes nothing and
//! has nothing to tell.

use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, EndpointStatus, OperatorEvent},
    entities::{Texts, delivery, endpoint, message},
    ids::{DeliveryId, MessageId, TenantId},
    queue::{Job, Lane},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};
use serde_json::{Value, json};

use crate::dispatch::Dispatched;

/// One event, before it is known who wants it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Whose operators hear it.
    pub(crate) tenant: TenantId,
    /// What happened.
    pub(crate) what: OperatorEvent,
    /// What it happened to, and how.
    pub(crate) data: Value,
}

/// Writes the events that somebody wants, with their deliveries, and returns the jobs.
pub(crate) async fn tell(
    tx: &impl ConnectionTrait,
    events: Vec<Event>,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let listeners = listeners(tx, &events).await?;
    let (mut messages, mut deliveries) = (Vec::new(), Vec::new());
    for event in events {
        let name = event.what.as_str();
        let mut wanted = listeners
            .iter()
            .filter(|endpoint| endpoint.tenant_id == event.tenant && names(endpoint, name))
            .peekable();
        if wanted.peek().is_none() {
            continue;
        }
        let message = message_of(&event, now);
        deliveries.extend(wanted.map(|endpoint| delivery_of(&message, endpoint, now)));
        messages.push(message.into_active_model());
    }
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    message::Entity::insert_many(messages)
        .exec_without_returning(tx)
        .await?;
    let jobs = deliveries.iter().map(job).collect();
    let rows = deliveries
        .into_iter()
        .map(delivery::Model::into_active_model);
    delivery::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(jobs)
}

/// The endpoints of these tenants that take messages.
async fn listeners(
    tx: &impl ConnectionTrait,
    events: &[Event],
) -> Result<Vec<endpoint::Model>, DbErr> {
    let mut tenants: Vec<TenantId> = events.iter().map(|event| event.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    endpoint::Entity::find()
        .filter(endpoint::Column::TenantId.is_in(tenants))
        .filter(endpoint::Column::DeletedAt.is_null())
        .filter(endpoint::Column::Status.ne(EndpointStatus::Disabled))
        .all(tx)
        .await
}

/// Whether an endpoint names the event's type. One that wants everything wants what the tenant publishes: it may be a
/// customer's, whom another one's URL is no business of.
fn names(endpoint: &endpoint::Model, event_type: &str) -> bool {
    let named = endpoint.event_types.0.iter().any(|one| one == event_type);
    named && endpoint.wants(event_type, &[])
}

fn message_of(event: &Event, now: Timestamp) -> message::Model {
    let payload = json!({
        "type": event.what.as_str(),
        "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "data": event.data,
    });
    message::Model {
        id: MessageId::generate(now),
        tenant_id: event.tenant,
        event_type: event.what.as_str().to_owned(),
        channels: Texts::default(),
        payload: payload.to_string().into_bytes(),
        metadata: None,
        request_id: String::new(),
        created_at: now,
        deliver_at: None,
        expires_at: None,
    }
}

fn delivery_of(
    message: &message::Model,
    endpoint: &endpoint::Model,
    now: Timestamp,
) -> delivery::Model {
    let id = DeliveryId::generate(now);
    delivery::Model {
        message_id: Some(message.id),
        endpoint_id: Some(endpoint.id),
        ..delivery::Model::pending(id, DeliveryKind::Webhook, message.tenant_id, now)
    }
}

fn job(delivery: &delivery::Model) -> Dispatched {
    Dispatched {
        lane: Lane::Webhooks,
        job: Job {
            delivery: delivery.id,
            tenant: delivery.tenant_id,
            endpoint: delivery.endpoint_id,
        },
    }
}
