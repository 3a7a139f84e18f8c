//! Event types, and the schemas that payloads have to fit.

use relaypost_shared::{
    delivery::{OperatorEvent, TEST_EVENT},
    entities::event_type,
    store::fixtures::message,
};
use serde_json::{Value, json};

use crate::{api, id, support::Tenant, support::ids};

fn order_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"items": {"type": "array", "items": {
            "type": "object", "properties": {"price": {"type": "number"}}, "required": ["price"],
        }}},
        "required": ["items"],
    })
}

async fn register(tenant: &Tenant, name: &str, schema: Value) {
    let new = json!({"name": name, "schema": schema});
    tenant.api.post("/v1/event-types", new).await.expect(201);
}

fn message(event_type: &str, payload: Value) -> Value {
    json!({"event_type": event_type, "payload": payload})
}

#[tokio::test]
async fn an_event_type_is_registered_shown_changed_archived_and_taken_up_again() {
    let api = api().await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let new = json!({"name": "order.created", "description": "Somebody bought", "schema": order_schema()});
    let created = tenant
        .api
        .post("/v1/event-types", new.clone())
        .await
        .expect(201);
    assert!(id(&created).starts_with("evt_"));
    for (field, value) in new.as_object().unwrap() {
        assert_eq!(created[field], *value, "{field}");
    }
    let path = "/v1/event-types/order.created";
    assert_eq!(tenant.api.get(path).await.expect(200), created);
    // A name is one tenant's own, and one thing of it.
    register(&other, "order.created", json!({})).await;
    let again = tenant.api.post("/v1/event-types", new).await;
    assert_eq!(again.faults(409, "event_type_exists"), [""; 0], "{again}");

    let changed = tenant
        .api
        .patch(path, json!({"description": "Sold"}))
        .await
        .expect(200);
    assert_eq!(changed["description"], "Sold");
    assert_eq!(changed["schema"], created["schema"]);
    let cleared = json!({"description": null, "schema": null});
    let cleared = tenant.api.patch(path, cleared).await.expect(200);
    assert_eq!(
        (cleared.get("description"), cleared.get("schema")),
        (None, None)
    );

    let null = tenant.api.patch(path, json!({"archived": null})).await;
    assert_eq!(null.body["errors"][0]["path"], "archived", "{null}");

    tenant.api.delete(path).await.expect(204);
    api.advance(5);
    tenant.api.delete(path).await.expect(204);
    let archived = tenant.api.get(path).await.expect(200);
    assert_eq!(archived["archived_at"], "2026-01-31T09:30:00.000Z");
    let kept = tenant.api.patch(path, json!({"archived": true})).await;
    assert_eq!(kept.expect(200)["archived_at"], archived["archived_at"]);
    let listed = tenant.api.get("/v1/event-types").await.expect(200);
    assert_eq!(ids(&listed["data"]), [id(&created)]);
    let refused = tenant
        .api
        .post("/v1/messages", message("order.created", json!(1)))
        .await;
    assert_eq!(
        refused.faults(422, "event_type_archived"),
        [""; 0],
        "{refused}"
    );
    let back = json!({"archived": false});
    let back = tenant.api.patch(path, back).await.expect(200);
    assert_eq!(back.get("archived_at"), None);
    tenant.publish("order.created").await;

    for name in ["order.paid", "order%20created"] {
        let path = format!("/v1/event-types/{name}");
        let missing = tenant.api.get(&path).await.status;
        assert!([400, 404].contains(&missing), "{name}: {missing}");
    }
    for answer in [
        tenant.api.patch("/v1/event-types/x", json!({})).await,
        tenant.api.delete("/v1/event-types/x").await,
    ] {
        assert_eq!(answer.faults(404, "not_found"), [""; 0], "{answer}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_name_with_a_slash_is_found_by_its_escaped_form() {
    let api = api().await;
    let tenant = api.tenant().await;
    register(&tenant, "shop/order:paid", json!({})).await;
    for path in [
        "/v1/event-types/shop%2Forder%3Apaid",
        "/v1/event-types/shop%2Forder:paid",
    ] {
        let found = tenant.api.get(path).await.expect(200);
        assert_eq!(found["name"], "shop/order:paid");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_refused_with_its_place_and_nothing_is_written() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    register(&tenant, "order.created", order_schema()).await;
    let wrong = json!({"items": [{"price": 1}, {}, {"price": "tok_secret"}]});
    let refused = tenant
        .api
        .post("/v1/messages", message("order.created", wrong.clone()))
        .await;
    assert_eq!(
        refused.faults(422, "validation_failed"),
        [""; 0],
        "{refused}"
    );
    let errors = refused.body["errors"].as_array().unwrap();
    let mut paths: Vec<&str> = errors
        .iter()
        .map(|error| error["path"].as_str().unwrap())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["payload.items[1].price", "payload.items[2].price"]);
    assert!(!refused.to_string().contains("tok_secret"), "{refused}");
    assert_eq!(api.count::<message::Entity>().await, 0);

    // Another type, another tenant: no schema.
    let fits = json!({"items": [{"price": 1.5}]});
    tenant
        .api
        .post("/v1/messages", message("order.created", fits.clone()))
        .await
        .expect(201);
    tenant
        .api
        .post("/v1/messages", message("order.paid", wrong.clone()))
        .await
        .expect(201);
    let other = api.tenant().await;
    other
        .api
        .post("/v1/messages", message("order.created", wrong.clone()))
        .await
        .expect(201);

    let batch = json!({"messages": [
        message("order.created", fits.clone()), message("order.created", wrong), message("free", json!(1)),
        message("order.created", fits),
    ]});
    let answer = tenant
        .api
        .post("/v1/messages/batch", batch)
        .await
        .expect(200);
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<&Value> = results.iter().map(|result| &result["status"]).collect();
    assert_eq!(statuses, [201, 422, 201, 201]);
    let error = &results[1]["error"];
    assert_eq!(error["errors"][0]["path"], "payload.items[1].price");
    api.stop().await;
}

#[tokio::test]
async fn a_schema_holds_at_once_in_every_process() {
    let api = api().await;
    let tenant = api.tenant().await;
    let elsewhere = api.elsewhere(&tenant.api);
    let number = message("reading", json!(7));
    let publish = async |wanted: u16| {
        for client in [&tenant.api, &elsewhere] {
            let answer = client.post("/v1/messages", number.clone()).await;
            assert_eq!(answer.status, wanted, "{answer}");
        }
    };
    publish(201).await;
    register(&tenant, "reading", json!({"type": "string"})).await;
    publish(422).await;
    let path = "/v1/event-types/reading";
    for (change, wanted) in [
        (json!({"schema": {"type": "number"}}), 201),
        (json!({"schema": {"type": "number", "maximum": 6}}), 422),
        (json!({"description": "still"}), 422),
        (json!({"schema": null}), 201),
        (json!({"archived": true}), 422),
        (json!({"archived": false}), 201),
        (json!({"schema": {"type": "string"}}), 422),
    ] {
        tenant.api.patch(path, change).await.expect(200);
        publish(wanted).await;
    }
    api.stop().await;
}

#[tokio::test]
async fn what_was_published_is_answered_again_after_its_schema_has_changed() {
    let api = api().await;
    let tenant = api.tenant().await;
    register(&tenant, "reading", json!({"type": "number"})).await;
    let keyed = tenant.api.header("idempotency-key", "reading-1");
    let first = keyed
        .post("/v1/messages", message("reading", json!(7)))
        .await
        .expect(201);
    let change = json!({"schema": {"type": "string"}});
    tenant
        .api
        .patch("/v1/event-types/reading", change)
        .await
        .expect(200);
    let again = keyed
        .post("/v1/messages", message("reading", json!(7)))
        .await
        .expect(200);
    assert_eq!(again, first);
    api.stop().await;
}

#[tokio::test]
async fn what_is_no_usable_schema_is_refused_when_it_is_registered() {
    let api = api().await;
    let tenant = api.tenant().await;
    register(&tenant, "known", json!({})).await;
    for (schema, path) in [
        (json!("string"), "schema"),
        (json!({"type": "strin"}), "schema.type"),
        (json!({"$ref": "http://127.0.0.1:9/schema.json"}), "schema"),
        (json!({"pattern": "(?=a)"}), "schema.pattern"),
        (json!({"$comment": "x".repeat(66_000)}), "schema"),
        (json!({"const": "\u{0}"}), "schema"),
    ] {
        let new = json!({"name": "a", "schema": schema});
        for refused in [
            tenant.api.post("/v1/event-types", new).await,
            tenant
                .api
                .patch("/v1/event-types/known", json!({"schema": schema}))
                .await,
        ] {
            assert_eq!(
                refused.faults(422, "validation_failed"),
                [""; 0],
                "{refused}"
            );
            assert_eq!(refused.body["errors"][0]["path"], path, "{refused}");
        }
    }
    let wrong_name = json!({"name": "a b"});
    let refused = tenant.api.post("/v1/event-types", wrong_name).await;
    assert_eq!(refused.body["errors"][0]["path"], "name", "{refused}");
    assert_eq!(api.count::<event_type::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn the_events_of_relaypost_itself_are_nobody_elses() {
    let api = api().await;
    let tenant = api.tenant().await;
    let events = OperatorEvent::ALL.iter().map(|event| event.as_str());
    for event in events.chain([TEST_EVENT]) {
        for (path, body, field) in [
            ("/v1/messages", message(event, json!({})), "event_type"),
            ("/v1/event-types", json!({"name": event}), "name"),
        ] {
            let refused = tenant.api.post(path, body).await;
            assert_eq!(
                refused.faults(422, "validation_failed"),
                [""; 0],
                "{refused}"
            );
            assert_eq!(refused.body["errors"][0]["path"], field, "{refused}");
        }
    }
    // To get them an endpoint names them.
    tenant.endpoint(&["endpoint.disabled", TEST_EVENT]).await;
    api.stop().await;
}

#[tokio::test]
async fn a_registration_that_is_sent_again_is_made_once() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keyed = tenant.api.header("idempotency-key", "k");
    let new = json!({"name": "a", "schema": {"type": "object"}});
    let first = keyed.post("/v1/event-types", new.clone()).await.expect(201);
    let again = keyed.post("/v1/event-types", new).await.expect(200);
    assert_eq!(again, first);
    let other = keyed.post("/v1/event-types", json!({"name": "b"})).await;
    assert_eq!(
        other.faults(409, "idempotency_key_reused"),
        [""; 0],
        "{other}"
    );
    api.stop().await;
}

#[tokio::test]
async fn event_types_are_read_with_read_and_changed_with_manage() {
    let api = api().await;
    let tenant = api.tenant().await;
    register(&tenant, "a", json!({})).await;
    let key = api.key(&tenant.id, &["read", "send"]).await;
    let reader = api.anonymous().key(key["key"].as_str().unwrap());
    reader.get("/v1/event-types/a").await.expect(200);
    for refused in [
        reader.post("/v1/event-types", json!({"name": "b"})).await,
        reader.patch("/v1/event-types/a", json!({})).await,
        reader.delete("/v1/event-types/a").await,
    ] {
        assert_eq!(refused.faults(403, "forbidden"), [""; 0], "{refused}");
    }
    api.stop().await;
}
