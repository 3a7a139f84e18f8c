//! Operator events: what Relaypost has to say about endpoints and deliveries, sent as ordinary messages to those of the
//! tenant's endpoints that name the event's type.
//!
//! They are written in the transaction of what they tell of, so each is told once: who comes second changes nothing and
//! has nothing to tell.

use crate::{
    circuit::Notice,
    clock::Timestamp,
    delivery::{DeliveryKind, EndpointStatus, OperatorEvent},
    entities::{Texts, circuit, delivery, endpoint, message},
    ids::{DeliveryId, EndpointId, MessageId, TenantId},
    queue::Job,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};
use serde_json::{Value, json};

/// One event, before it is known who wants it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Whose operators hear it.
    pub tenant: TenantId,
    /// What happened.
    pub what: OperatorEvent,
    /// What it happened to, and how.
    pub data: Value,
}

impl Event {
    /// What a circuit has to tell, if it is an endpoint's. That the endpoint is to be disabled is told when it is done.
    pub fn of_circuit(circuit: &circuit::Model, notice: Notice) -> Option<Self> {
        let (what, more) = match notice {
            Notice::Opened => (
                OperatorEvent::CircuitOpened,
                json!({"failures": circuit.failures, "retry_at": moment(circuit.retry_at)}),
            ),
            Notice::Closed => (OperatorEvent::CircuitClosed, json!({})),
            Notice::Disabling(percent) => (
                OperatorEvent::EndpointDisabling,
                json!({"percent": percent, "failing_since": moment(circuit.failing_since)}),
            ),
            Notice::Recovered => (OperatorEvent::EndpointRecovered, json!({})),
            Notice::Disable => return None,
        };
        let mut data = json!({"endpoint_id": EndpointId::from_uuid(circuit.id).to_string()});
        if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        Some(Event {
            tenant: circuit.tenant_id?,
            what,
            data,
        })
    }
}

fn moment(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

/// Writes the events that somebody wants, with their deliveries, and returns the jobs, which are due at once.
///
/// # Errors
/// When the database fails.
pub async fn tell(
    tx: &impl ConnectionTrait,
    events: Vec<Event>,
    now: Timestamp,
) -> Result<Vec<Job>, DbErr> {
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
        cancelled_at: None,
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

fn job(delivery: &delivery::Model) -> Job {
    Job {
        delivery: delivery.id,
        tenant: delivery.tenant_id,
        endpoint: delivery.endpoint_id,
    }
}
