//! What a schema and a payload may cost, and whom an expensive one holds up: nobody but its tenant.

use std::time::Duration;

use relaypost_shared::entities::event_type;
use relaypost_shared::store::fixtures::message;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use crate::{api, support::Tenant};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Definitions that are each an `anyOf` of the next one, twice.
fn chain(length: usize) -> Map<String, Value> {
    let mut definitions = Map::new();
    for n in 0..length {
        let next = json!({"$ref": format!("#/$defs/l{}", n + 1)});
        definitions.insert(format!("l{n}"), json!({"anyOf": [next, next]}));
    }
    definitions.insert(format!("l{length}"), json!({"type": "string"}));
    definitions
}

/// A schema that costs more with each item, and that can be registered: its chain is short enough.
fn costly() -> Value {
    json!({"$defs": chain(12), "contains": {"$ref": "#/$defs/l0"}})
}

fn message(event_type: &str, payload: Value) -> Value {
    json!({"event_type": event_type, "payload": payload})
}

async fn register(tenant: &Tenant, name: &str, schema: Value) {
    let new = json!({"name": name, "schema": schema});
    tenant.api.post("/v1/event-types", new).await.expect(201);
}

#[tokio::test]
async fn a_schema_that_unfolds_too_far_is_refused_at_create_and_at_change() {
    let api = api().await;
    let tenant = api.tenant().await;
    register(&tenant, "known", json!({})).await;
    for length in [20, 40] {
        let schema = json!({"$defs": chain(length), "$ref": "#/$defs/l0"});
        for refused in [
            tenant
                .api
                .post("/v1/event-types", json!({"name": "x", "schema": schema}))
                .await,
            tenant
                .api
                .patch("/v1/event-types/known", json!({"schema": schema}))
                .await,
        ] {
            assert_eq!(refused.status, 422, "{refused}");
            let mut problem = refused.body;
            problem.as_object_mut().unwrap().remove("request_id");
            let why = "applies more than 20000 schemas to one value, all alternatives and references together";
            assert_eq!(
                problem,
                json!({
                    "type": "urn:relaypost:problem:schema_too_expensive",
                    "title": "The schema costs too much to check",
                    "status": 422,
                    "detail": format!("schema: {why}"),
                    "code": "schema_too_expensive",
                    "retryable": false,
                    "errors": [{"path": "schema", "message": why}],
                })
            );
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn a_stored_schema_that_unfolds_too_far_refuses_payloads_and_checks_none() {
    let api = api().await;
    let tenant = api.tenant().await;
    register(&tenant, "x", json!({})).await;
    // As an earlier version may have taken it.
    let schema = json!({"$defs": chain(40), "$ref": "#/$defs/l0"});
    event_type::Entity::update_many()
        .col_expr(event_type::Column::Schema, Expr::value(schema))
        .filter(event_type::Column::Name.eq("x"))
        .exec(&api.db)
        .await
        .unwrap();
    for _ in 0..3 {
        let publish = tenant.api.post("/v1/messages", message("x", json!(1)));
        let refused = timeout(PATIENCE, publish).await.expect("an answer");
        assert_eq!(
            refused.faults(422, "schema_too_expensive"),
            [""; 0],
            "{refused}"
        );
    }
    api.anonymous().get("/health/live").await.expect(200);
    assert_eq!(api.count::<message::Entity>().await, 0);
    api.stop().await;
}

/// The runtime of this test has one thread: a check that ran on it would hold up every answer.
#[tokio::test]
async fn expensive_checks_of_one_tenant_hold_up_nobody_else() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    register(&tenant, "x", costly()).await;
    register(&other, "numbers", json!({"items": {"type": "integer"}})).await;
    let costs = message("x", json!(vec![1; 900]));
    let cheap = message("x", json!(["fits"]));
    let mut messages = vec![costs.clone(); 499];
    messages.push(cheap);
    let batch = async {
        let answer = tenant
            .api
            .post("/v1/messages/batch", json!({"messages": messages}));
        answer.await
    };
    let others = async {
        for n in 0..5 {
            api.anonymous().get("/health/live").await.expect(200);
            let small = message("numbers", json!([1]));
            other.api.post("/v1/messages", small).await.expect(201);
            // Large enough for the threads that the batch is checked on.
            let large = message("numbers", json!(vec![1; 20_000]));
            other.api.post("/v1/messages", large).await.expect(201);
            register(&other, &format!("other-{n}"), json!({"type": "string"})).await;
        }
    };
    let (batch, others) = tokio::join!(batch, timeout(PATIENCE, others));
    others.expect("answers while the batch is checked");

    let batch = batch.expect(200);
    let results = batch["results"].as_array().unwrap();
    assert_eq!(results.len(), 500);
    let (last, costly) = results.split_last().unwrap();
    assert_eq!(last["status"], 201, "{last}");
    for result in costly {
        assert_eq!(result["status"], 422, "{result}");
        assert_eq!(result["error"]["code"], "schema_too_expensive", "{result}");
        assert_eq!(result["error"]["errors"][0]["path"], "payload", "{result}");
    }
    api.stop().await;
}
