//! Deliveries that are dead, for the tests of what can be done with them.

use relaypost_shared::{
    delivery::{AttemptOutcome, ErrorClass, Reason, Status},
    entities::audit_log,
    ids::{AttemptId, DeliveryId},
    store::fixtures::{attempt, delivery},
};
use sea_orm::{
    ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, QueryOrder as _, Set,
};
use serde_json::json;

use crate::{
    Api, id,
    support::{Tenant, ids},
};

/// A delivery's row.
pub(crate) async fn row(api: &Api, delivery: &str) -> delivery::Model {
    let id: DeliveryId = delivery.parse().unwrap();
    let found = delivery::Entity::find_by_id(id).one(&api.db).await;
    found.unwrap().unwrap()
}

/// Ends a delivery after one failed attempt, as the worker does.
pub(crate) async fn kill(api: &Api, delivery: &str, reason: Reason, class: ErrorClass) {
    let (row, now) = (row(api, delivery).await, api.clock.now());
    let number = row.attempt_count + 1;
    let attempt = attempt::Model {
        delivery_id: row.id,
        number,
        id: AttemptId::generate(now),
        tenant_id: row.tenant_id,
        started_at: now,
        duration_ms: 12,
        outcome: AttemptOutcome::Failed,
        error_class: Some(class),
        http_status: Some(503),
        response_snippet: Some("out of order".to_owned()),
        request_id: "order-42".to_owned(),
    };
    attempt::Entity::insert(attempt.into_active_model())
        .exec_without_returning(&api.db)
        .await
        .unwrap();
    let mut dead = row.into_active_model();
    dead.status = Set(Status::Dead);
    dead.attempt_count = Set(number);
    dead.next_attempt_at = Set(None);
    dead.dispatch_at = Set(None);
    dead.reason = Set(Some(reason));
    dead.error_class = Set(Some(class));
    dead.finished_at = Set(Some(now));
    dead.dead_at = Set(Some(now));
    dead.update(&api.db).await.unwrap();
}

/// A webhook that is dead.
pub(crate) async fn dead_webhook(api: &Api, tenant: &Tenant, event_type: &str) -> String {
    let delivery = id(&tenant.publish(event_type).await["deliveries"][0]);
    kill(
        api,
        &delivery,
        Reason::RetriesExhausted,
        ErrorClass::Http5xx,
    )
    .await;
    delivery
}

/// An email that is dead, with its id.
pub(crate) async fn dead_email(api: &Api, tenant: &Tenant) -> (String, String) {
    let new = json!({"to": ["Ann <ann@example.com>"], "bcc": ["bob@example.com"], "subject": "Hello",
        "text": "Hi", "html": "<p>Hi</p>", "headers": {"X-Own": "yes"}, "tags": ["a"]});
    let email = tenant.api.post("/v1/emails", new).await.expect(201);
    let delivery = id(&email["deliveries"][0]);
    kill(api, &delivery, Reason::Rejected, ErrorClass::Smtp5xx).await;
    (delivery, id(&email))
}

/// What was done by hand after the set-up of a test, as the audit log has it: who, what, to what, by which request.
pub(crate) async fn audited(api: &Api) -> Vec<[String; 4]> {
    let mut entries = audit_log(api).await;
    entries.retain(|[_, action, ..]| !SET_UP.contains(&action.as_str()));
    entries
}

/// What the tests do before what they are about.
const SET_UP: [&str; 3] = ["tenant.created", "api_key.created", "endpoint.created"];

/// Every entry of the audit log: who, what, to what, by which request.
pub(crate) async fn audit_log(api: &Api) -> Vec<[String; 4]> {
    let entries = audit_log::Entity::find().order_by_asc(audit_log::Column::Id);
    let entries = entries.all(&api.db).await.unwrap().into_iter();
    entries
        .map(|entry| [entry.actor, entry.action, entry.target, entry.request_id])
        .collect()
}

pub(crate) async fn listed(tenant: &Tenant, path: &str) -> Vec<String> {
    ids(&tenant.api.get(path).await.expect(200)["data"])
}
