//! Ids of the customer's own for tenants and endpoints: unique, found again, created by `PUT` exactly once.

use std::collections::BTreeSet;

use relaypost_shared::entities::{audit_log, endpoint, endpoint_secret, tenant};
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Answer, Api, api, id,
    sign_in::person,
    support::{Client, ids},
};

const URL: &str = "https://example.com/hooks";
const TENANT: &str = "/v1/tenants/by-external-id/customer-42";
const ENDPOINT: &str = "/v1/endpoints/by-external-id/orders";

async fn audited(api: &Api, action: &str) -> u64 {
    let entries = audit_log::Entity::find().filter(audit_log::Column::Action.eq(action));
    entries.count(&api.db).await.unwrap()
}

/// Puts the same from many requests of two processes at once: how many were told 201, and the ids.
async fn put_at_once(
    clients: [Client; 2],
    path: &'static str,
    body: Value,
) -> (usize, BTreeSet<String>) {
    let mut requests = JoinSet::new();
    for number in 0..40 {
        let (client, body) = (clients[number % 2].clone(), body.clone());
        requests.spawn(async move { client.put(path, body).await });
    }
    let answers: Vec<Answer> = requests.join_all().await;
    for answer in &answers {
        assert!(matches!(answer.status, 200 | 201), "{answer}");
    }
    let created = answers.iter().filter(|answer| answer.status == 201);
    let ids = answers.iter().map(|answer| id(&answer.body));
    (created.count(), ids.collect())
}

#[tokio::test]
async fn of_many_puts_at_once_one_creates_the_tenant_and_all_answer_with_it() {
    let api = api().await;
    let before = api.count::<tenant::Entity>().await;
    let clients = [api.root(), api.elsewhere(&api.root())];
    let (created, ids) = put_at_once(clients, TENANT, json!({"name": "Acme"})).await;
    assert_eq!((created, ids.len()), (1, 1));
    assert_eq!(api.count::<tenant::Entity>().await, before + 1);
    assert_eq!(audited(&api, "tenant.created").await, 1);
    assert_eq!(audited(&api, "tenant.changed").await, 0, "nothing changed");
    api.stop().await;
}

#[tokio::test]
async fn of_many_puts_at_once_one_creates_the_endpoint_with_one_secret() {
    let api = api().await;
    let tenant = api.tenant().await;
    let clients = [tenant.api.clone(), api.elsewhere(&tenant.api)];
    let body = json!({"url": URL, "headers": {"X-Own": "yes"}, "event_types": ["a"]});
    let (created, ids) = put_at_once(clients, ENDPOINT, body).await;
    assert_eq!((created, ids.len()), (1, 1));
    assert_eq!(api.count::<endpoint::Entity>().await, 1);
    assert_eq!(api.count::<endpoint_secret::Entity>().await, 1);
    assert_eq!(audited(&api, "endpoint.created").await, 1);
    assert_eq!(
        audited(&api, "endpoint.changed").await,
        0,
        "nothing changed"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_tenant_that_is_put_is_as_the_body_says_whether_or_not_it_was_there() {
    let api = api().await;
    let (root, name) = (api.root(), json!({"name": "Acme"}));
    let resend =
        json!({"name": "Acme", "email_on_uncertain": "resend", "external_id": "customer-42"});
    let created = root.put(TENANT, resend).await.expect(201);
    assert_eq!(created["external_id"], "customer-42");
    assert_eq!(created["email_on_uncertain"], "resend");
    let put = root.put(TENANT, name.clone()).await.expect(200);
    assert_eq!(put["id"], created["id"]);
    assert_eq!(put["email_on_uncertain"], "hold", "left out: the default");
    assert_eq!(root.put(TENANT, name).await.expect(200), put);
    let path = format!("/v1/tenants/{}", id(&created));
    assert_eq!(root.get(&path).await.expect(200), put);
    assert_eq!(audited(&api, "tenant.changed").await, 1);

    for (body, path) in [
        (json!({}), "name"),
        (
            json!({"name": "a", "external_id": "another"}),
            "external_id",
        ),
        (json!({"name": "a", "external_id": "ten_42"}), "external_id"),
    ] {
        let refused = root.put(TENANT, body).await.expect(422);
        assert_eq!(refused["errors"][0]["path"], path, "{refused}");
    }
    for unusable in ["ten_42", "a%2Fb", "-a", "a%20b", &"x".repeat(256)] {
        let path = format!("/v1/tenants/by-external-id/{unusable}");
        let refused = root.put(&path, json!({"name": "a"})).await;
        assert_eq!(
            refused.faults(400, "invalid_parameter"),
            [""; 0],
            "{refused}"
        );
    }
    api.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_put_keeps_its_secret_its_status_and_its_circuit() {
    let api = api().await;
    let tenant = api.tenant().await;
    let all = json!({
        "url": URL, "description": "a", "event_types": ["a"], "channels": ["b"], "headers": {"X-Own": "yes"},
        "timeout_ms": 1000, "retry_schedule": [1], "rate_limit_per_s": 5, "max_in_flight": 2, "ordering": "fifo",
    });
    let created = tenant.api.put(ENDPOINT, all.clone()).await.expect(201);
    assert!(
        created["secret"].as_str().unwrap().starts_with("whsec_"),
        "{created}"
    );
    let path = format!("/v1/endpoints/{}", id(&created));
    tenant
        .api
        .post(&format!("{path}/pause"), json!({}))
        .await
        .expect(200);
    let found = tenant.api.put(ENDPOINT, all).await.expect(200);
    assert_eq!(
        (&found["secret"], &found["status"]),
        (&Value::Null, &json!("paused"))
    );
    assert_eq!(
        audited(&api, "endpoint.changed").await,
        0,
        "nothing changed"
    );

    let put = tenant
        .api
        .put(ENDPOINT, json!({"url": URL}))
        .await
        .expect(200);
    assert_eq!(
        (&put["id"], &put["status"]),
        (&created["id"], &json!("paused"))
    );
    assert_eq!(put["external_id"], "orders");
    for (field, default) in [
        ("event_types", json!([])),
        ("channels", json!([])),
        ("headers", json!({})),
        ("description", Value::Null),
        ("timeout_ms", Value::Null),
        ("retry_schedule", Value::Null),
        ("rate_limit_per_s", Value::Null),
        ("max_in_flight", Value::Null),
        ("ordering", Value::Null),
    ] {
        assert_eq!(put[field], default, "{field}");
    }
    assert_eq!(tenant.api.get(&path).await.expect(200), put);
    let secret = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(secret["secret"], created["secret"]);

    let signing = json!({"url": URL, "signing": "ed25519"});
    tenant.api.put(ENDPOINT, signing).await.expect(200);
    let key = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    assert!(key["public_key"].is_string(), "{key}");
    let inside = json!({"url": "http://10.0.0.1/"});
    tenant.api.put(ENDPOINT, inside).await.expect(422);
    api.stop().await;
}

#[tokio::test]
async fn a_message_goes_to_an_endpoint_that_was_just_put_in_another_process() {
    let api = api().await;
    let tenant = api.tenant().await;
    let there = api.elsewhere(&tenant.api);
    let publish = async || {
        let message = json!({"event_type": "a", "payload": 1});
        let message = there.post("/v1/messages", message).await.expect(201);
        message["deliveries"].as_array().unwrap().len()
    };
    assert_eq!(publish().await, 0);
    tenant
        .api
        .put(ENDPOINT, json!({"url": URL}))
        .await
        .expect(201);
    assert_eq!(publish().await, 1);
    let others = json!({"url": URL, "event_types": ["b"]});
    tenant.api.put(ENDPOINT, others).await.expect(200);
    assert_eq!(publish().await, 0);
    api.stop().await;
}

#[tokio::test]
async fn an_external_id_is_taken_once_and_free_again_when_it_is_given_up() {
    let api = api().await;
    let (one, other) = (api.tenant().await, api.tenant().await);
    let named = json!({"url": URL, "external_id": "orders"});
    let first = one
        .api
        .post("/v1/endpoints", named.clone())
        .await
        .expect(201);
    assert_eq!(first["external_id"], "orders");
    let second = one.endpoint(&[]).await;
    let second = format!("/v1/endpoints/{second}");
    let external = json!({"external_id": "orders"});
    for refused in [
        one.api.post("/v1/endpoints", named.clone()).await,
        one.api
            .header("idempotency-key", "k")
            .post("/v1/endpoints", named.clone())
            .await,
        one.api.patch(&second, external.clone()).await,
    ] {
        assert_eq!(
            refused.faults(409, "external_id_taken"),
            [""; 0],
            "{refused}"
        );
    }
    // Another tenant has its own.
    other
        .api
        .post("/v1/endpoints", named.clone())
        .await
        .expect(201);

    let first = format!("/v1/endpoints/{}", id(&first));
    one.api.delete(&first).await.expect(204);
    let changed = one.api.patch(&second, external).await.expect(200);
    assert_eq!(changed["external_id"], "orders");
    let cleared = json!({"external_id": null});
    let cleared = one.api.patch(&second, cleared).await.expect(200);
    assert_eq!(cleared["external_id"], Value::Null);
    let made = one.api.put(ENDPOINT, json!({"url": URL})).await.expect(201);
    one.api
        .delete(&format!("/v1/endpoints/{}", id(&made)))
        .await
        .expect(204);
    one.api.put(ENDPOINT, json!({"url": URL})).await.expect(201);

    let root = api.root();
    let tenants = [&one.id, &other.id].map(|id| format!("/v1/tenants/{id}"));
    let external = json!({"external_id": "customer-42"});
    root.patch(&tenants[0], external.clone()).await.expect(200);
    let named = json!({"name": "a", "external_id": "customer-42"});
    for refused in [
        root.patch(&tenants[1], external.clone()).await,
        root.post("/v1/tenants", named).await,
    ] {
        assert_eq!(
            refused.faults(409, "external_id_taken"),
            [""; 0],
            "{refused}"
        );
    }
    root.patch(&tenants[0], json!({"external_id": null}))
        .await
        .expect(200);
    root.patch(&tenants[1], external).await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_by_external_id() {
    let api = api().await;
    let (root, tenant) = (api.root(), api.tenant().await);
    let made = id(&root.put(TENANT, json!({"name": "Acme"})).await.expect(201));
    let endpoint = id(&tenant
        .api
        .put(ENDPOINT, json!({"url": URL}))
        .await
        .expect(201));
    tenant.endpoint(&[]).await;
    let other = api.tenant().await;
    for (client, list, found) in [
        (&root, "/v1/tenants?external_id=customer-42", vec![made]),
        (&root, "/v1/tenants?external_id=customer-43", vec![]),
        (
            &tenant.api,
            "/v1/endpoints?external_id=orders",
            vec![endpoint],
        ),
        (&other.api, "/v1/endpoints?external_id=orders", vec![]),
    ] {
        assert_eq!(
            ids(&client.get(list).await.expect(200)["data"]),
            found,
            "{list}"
        );
    }
    let refused = tenant.api.get("/v1/endpoints?external_id=ep_1").await;
    assert_eq!(
        refused.faults(400, "invalid_parameter"),
        [""; 0],
        "{refused}"
    );
    api.stop().await;
}

#[tokio::test]
async fn x_tenant_id_takes_an_external_id_and_opens_no_other_tenant() {
    let api = api().await;
    let root = api.root();
    let (mine, theirs) = (api.tenant().await, api.tenant().await);
    for (tenant, external) in [(&mine, "mine"), (&theirs, "theirs")] {
        let path = format!("/v1/tenants/{}", tenant.id);
        root.patch(&path, json!({"external_id": external}))
            .await
            .expect(200);
    }
    let endpoint = mine.endpoint(&[]).await;
    let with = |client: &Client, named: &str| client.header("x-tenant-id", named);
    let roles = json!({"memberships": [
        {"tenant_id": mine.id, "role": "viewer"},
        {"tenant_id": api.tenant().await.id, "role": "viewer"},
    ]});
    let member = person(&api, roles).await.api;
    for client in [&root, &mine.api, &member] {
        let listed = with(client, "mine").get("/v1/endpoints").await.expect(200);
        assert_eq!(ids(&listed["data"]), [endpoint.as_str()]);
    }
    for (client, named, status, code) in [
        (&mine.api, "theirs", 403, "forbidden"),
        (&mine.api, "nobodys", 403, "forbidden"),
        (&member, "theirs", 404, "not_found"),
        (&member, "nobodys", 404, "not_found"),
        (&root, "nobodys", 404, "not_found"),
        (&root, "not/one", 404, "not_found"),
    ] {
        let refused = with(client, named).get("/v1/endpoints").await;
        assert_eq!(refused.faults(status, code), [""; 0], "{refused}");
    }
    api.stop().await;
}
