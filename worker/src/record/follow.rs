//! What follows from recorded outcomes, in the same transaction: an endpoint is disabled, the turn passes on, operators
//! are told.

use relaypost_shared::{
    circuit::Notice,
    clock::Timestamp,
    db::Transaction,
    delivery::{CircuitState, DisabledReason, EndpointStatus, OperatorEvent, Outcome, Reason},
    entities::endpoint,
    events::{self, Event},
    ids::EndpointId,
    store::release,
};
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, sea_query::Expr};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Recorded;
use crate::{
    circuit::{Observed, next_in_order},
    dispatch::Dispatched,
    load::Target,
};

/// Does what follows, and returns what can go onto the queue because of it. `ended` are those whose outcome took effect.
pub(super) async fn up(
    tx: &Transaction,
    observed: &mut Observed,
    ended: &[&Recorded],
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let mut events = Vec::new();
    for (circuit, notice) in std::mem::take(&mut observed.notices) {
        if notice == Notice::Disable {
            events.extend(disable(tx, observed, circuit, DisabledReason::Failing, now).await?);
        } else if let Some(row) = observed.circuits.get(&circuit) {
            events.extend(Event::of_circuit(row, notice));
        }
    }
    for recorded in ended {
        if let Some(circuit) = recorded.disables() {
            events.extend(disable(tx, observed, circuit, DisabledReason::Gone, now).await?);
        }
    }
    events.extend(ended.iter().filter_map(|recorded| exhausted(recorded)));
    let mut released = pass_turns_on(tx, observed, ended, now).await?;
    let told = events::tell(tx, events, now).await?;
    released.extend(told.into_iter().map(Dispatched::live_webhook));
    Ok(released)
}

/// Disables an endpoint. What is held back for it is let go, and ends.
async fn disable(
    tx: &Transaction,
    observed: &mut Observed,
    circuit: Uuid,
    reason: DisabledReason,
    now: Timestamp,
) -> Result<Option<Event>, DbErr> {
    use endpoint::Column;
    let disabled = endpoint::Entity::update_many()
        .col_expr(Column::Status, Expr::value(EndpointStatus::Disabled))
        .col_expr(Column::DisabledReason, Expr::value(reason.as_str()))
        .col_expr(Column::UpdatedAt, Expr::value(now))
        .filter(Column::Id.eq(EndpointId::from_uuid(circuit)))
        .filter(Column::Status.ne(EndpointStatus::Disabled))
        .exec(tx)
        .await?;
    if let Some(row) = observed.circuits.get_mut(&circuit) {
        row.release_by(now);
    }
    if disabled.rows_affected == 0 {
        return Ok(None);
    }
    let row = endpoint::Entity::find_by_id(EndpointId::from_uuid(circuit))
        .one(tx)
        .await?;
    Ok(row.map(|endpoint| Event {
        tenant: endpoint.tenant_id,
        what: OperatorEvent::EndpointDisabled,
        data: json!({
            "endpoint_id": endpoint.id.to_string(),
            "url": endpoint.url,
            "disabled_reason": reason.as_str(),
        }),
    }))
}

fn exhausted(recorded: &Recorded) -> Option<Event> {
    let exhausted = Outcome::DeadLettered(Reason::RetriesExhausted);
    if recorded.outcome != exhausted || recorded.is_of_operators() {
        return None;
    }
    let delivery = recorded.delivery();
    let attempts = delivery.attempt_count + i32::from(recorded.attempted.is_some());
    let mut data = json!({
        "delivery_id": delivery.id.to_string(),
        "kind": delivery.kind.as_str(),
        "attempt_count": attempts,
        "error_class": recorded.report().error_class().map(|class| class.as_str()),
    });
    let about = match &recorded.loaded.target {
        Target::Webhook {
            message, endpoint, ..
        } => json!({
            "endpoint_id": endpoint.id.to_string(),
            "message_id": message.id.to_string(),
            "event_type": message.event_type,
        }),
        Target::Email { email, .. } => json!({"email_id": email.row.id.to_string()}),
        Target::Missing => json!({}),
    };
    if let (Some(data), Value::Object(about)) = (data.as_object_mut(), about) {
        data.extend(about);
    }
    Some(Event {
        tenant: delivery.tenant_id,
        what: OperatorEvent::DeliveryExhausted,
        data,
    })
}

/// Where messages are delivered in order, whoever has ended lets the next one go.
async fn pass_turns_on(
    tx: &Transaction,
    observed: &mut Observed,
    ended: &[&Recorded],
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let mut released = Vec::new();
    for recorded in ended {
        let Some(circuit) = recorded.ends_turn_at() else {
            continue;
        };
        let Some(row) = observed.circuits.get_mut(&circuit) else {
            continue;
        };
        let next = next_in_order(tx, row, recorded.delivery().id, now).await?;
        if row.state == CircuitState::Closed {
            if let Some(next) = next {
                let next = release::one(tx, next, now).await?;
                released.extend(next);
            }
        } else if next.is_some() {
            // It ended without having been the probe that it was released as.
            row.release_by(now);
        }
    }
    Ok(released)
}
