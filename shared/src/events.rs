//! Operator events: what Relaypost has to say about endpoints and deliveries, sent as ordinary messages to those of the
//! tenant's endpoints that name the event's type.
//!
//! They are written in the transaction of what they tell of, so each is told once: who comes second changes nothing and
//! has nothing to tell.

use crate::{
    circuit::Notice,
    clock::Timestamp,
    delivery::{EndpointStatus, OperatorEvent},
    entities::endpoint,
    ids::{EndpointId, TenantId},
    queue::Job,
    store::{self, Circuit, events::Told},
};
use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _};
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
    pub fn of_circuit(circuit: &Circuit, notice: Notice) -> Option<Self> {
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

/// Stores the events that some endpoint wants, with their deliveries, and returns the jobs, which are due at once.
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
    let told = events.iter().filter_map(|event| {
        let name = event.what.as_str();
        let wanted = listeners
            .iter()
            .filter(|endpoint| endpoint.tenant_id == event.tenant && names(endpoint, name));
        let endpoints: Vec<EndpointId> = wanted.map(|endpoint| endpoint.id).collect();
        (!endpoints.is_empty()).then(|| Told {
            tenant: event.tenant,
            event_type: name,
            payload: payload(event, now),
            endpoints,
        })
    });
    store::events::accept(tx, told.collect(), now).await
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

/// Whether an endpoint names the event's type. An endpoint that wants everything wants what the tenant publishes: it may be
/// a customer's, who must not hear of the endpoints of other customers.
fn names(endpoint: &endpoint::Model, event_type: &str) -> bool {
    let named = endpoint.event_types.0.iter().any(|one| one == event_type);
    named && endpoint.wants(event_type, &[])
}

fn payload(event: &Event, now: Timestamp) -> String {
    let payload = json!({
        "type": event.what.as_str(),
        "timestamp": now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "data": event.data,
    });
    payload.to_string()
}
