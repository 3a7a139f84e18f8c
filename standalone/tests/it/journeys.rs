//! Webhooks that arrive.

use relaypost_testkit::{Receiver, Tenant};
use serde_json::{Value, json};

use crate::{SOON, delivery_ids, id, verifies, world};

/// A payload that any parsing and printing on the way would change.
const ODD_PAYLOAD: &str = "{ \"z\" : 1,\r\n\t\"a\":\"\\u00e9 \\/ é 😀\" ,\"big\": 123456789012345678901234567890.10,\
    \"e\":1E+2, \"empty\" : [ ], \"-0\": -0.0 }";

#[tokio::test]
async fn a_published_event_arrives_byte_for_byte() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let endpoint =
        json!({"url": receiver.url("/hooks?x=1"), "event_types": [], "headers": {"X-Own": "yes"}});
    let (_, secret) = tenant.endpoint_with(endpoint).await;

    let message = format!(r#"{{"event_type":"order.created","payload":{ODD_PAYLOAD}}}"#);
    let accepted = tenant
        .api
        .post_raw("/v1/messages", "application/json", message)
        .await
        .expect(201);
    assert!(id(&accepted).starts_with("msg_"), "{accepted}");
    receiver.wait_for(1, SOON).await;

    let hit = &receiver.hits()[0];
    assert_eq!(
        (hit.method.as_str(), hit.path.as_str()),
        ("POST", "/hooks?x=1")
    );
    assert_eq!(String::from_utf8_lossy(&hit.body), ODD_PAYLOAD);
    assert_eq!(hit.header("content-type"), Some("application/json"));
    assert!(
        hit.header("user-agent").unwrap().starts_with("Relaypost/"),
        "{:?}",
        hit.headers
    );
    assert_eq!(hit.header("x-own"), Some("yes"));
    assert_eq!(hit.header("traceparent").unwrap().split('-').count(), 4);
    assert!(!hit.header("webhook-id").unwrap().is_empty());
    assert!(
        hit.header("webhook-timestamp")
            .unwrap()
            .parse::<u64>()
            .is_ok()
    );
    assert!(verifies(hit, &secret), "{:?}", hit.headers);

    let [delivery] = delivery_ids(&accepted).try_into().unwrap();
    let delivered = tenant.wait_delivery(&delivery, "delivered", SOON).await;
    assert_eq!(
        (&delivered["kind"], &delivered["attempt_count"]),
        (&json!("webhook"), &json!(1))
    );
    assert_eq!(delivered["message_id"], accepted["id"]);
    let attempts = tenant.attempts(&delivery).await;
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_attempt(&attempts[0], 1, 200);
    world.stop().await;
}

/// Every field of the contract is there.
pub(crate) fn assert_attempt(attempt: &Value, number: u64, http_status: u64) {
    assert!(id(attempt).starts_with("att_"), "{attempt}");
    assert_eq!(attempt["number"], number, "{attempt}");
    assert_eq!(attempt["http_status"], http_status, "{attempt}");
    for field in ["started_at", "outcome", "request_id"] {
        assert!(attempt[field].is_string(), "{field} in {attempt}");
    }
    assert!(attempt["duration_ms"].is_number(), "{attempt}");
}

#[tokio::test]
async fn an_event_goes_to_the_endpoints_that_want_its_type() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (orders, _) = tenant
        .endpoint(&receiver.url("/orders"), &["order.created", "order.paid"])
        .await;
    let (invoices, _) = tenant
        .endpoint(&receiver.url("/invoices"), &["invoice.sent"])
        .await;
    let (everything, _) = tenant.endpoint(&receiver.url("/everything"), &[]).await;

    assert_eq!(
        targets(&tenant, "order.created").await,
        sorted([&orders, &everything])
    );
    assert_eq!(
        targets(&tenant, "invoice.sent").await,
        sorted([&invoices, &everything])
    );
    assert_eq!(targets(&tenant, "order").await, sorted([&everything]));
    receiver.wait_for(5, SOON).await;
    let mut paths: Vec<_> = receiver.hits().into_iter().map(|hit| hit.path).collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/everything",
            "/everything",
            "/everything",
            "/invoices",
            "/orders"
        ]
    );
    world.stop().await;
}

/// Publishes an event, waits until it is delivered and returns the endpoints it went to.
async fn targets(tenant: &Tenant, event_type: &str) -> Vec<String> {
    let accepted = tenant.publish(event_type, json!({"n": 1})).await;
    let mut endpoints = Vec::new();
    for delivery in delivery_ids(&accepted) {
        let delivered = tenant.wait_delivery(&delivery, "delivered", SOON).await;
        endpoints.push(delivered["endpoint_id"].as_str().unwrap().to_owned());
    }
    let read = tenant
        .api
        .get(&format!("/v1/messages/{}", id(&accepted)))
        .await
        .expect(200);
    assert_eq!(delivery_ids(&read).len(), endpoints.len(), "{read}");
    endpoints.sort();
    endpoints
}

fn sorted<const N: usize>(ids: [&String; N]) -> Vec<String> {
    let mut ids: Vec<_> = ids.into_iter().cloned().collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn both_secrets_sign_during_the_grace_period() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (endpoint, old) = tenant.endpoint(&receiver.url("/"), &[]).await;
    let secret_path = format!("/v1/endpoints/{endpoint}/secret");
    tenant
        .api
        .post(
            &format!("{secret_path}/rotate"),
            json!({"grace_period_s": 3600}),
        )
        .await
        .success();
    let current = tenant.api.get(&secret_path).await.expect(200);
    let new = current["secret"].as_str().unwrap();
    assert_ne!(new, old);

    tenant.publish("order.created", json!({"n": 1})).await;
    receiver.wait_for(1, SOON).await;
    let hit = &receiver.hits()[0];
    let signatures = hit.header("webhook-signature").unwrap().split(' ');
    assert_eq!(
        signatures
            .filter(|signature| signature.starts_with("v1,"))
            .count(),
        2,
        "{:?}",
        hit.headers
    );
    assert!(
        verifies(hit, new) && verifies(hit, &old),
        "{:?}",
        hit.headers
    );
    world.stop().await;
}

#[tokio::test]
async fn a_repeated_idempotency_key_publishes_once() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    let api = tenant.api.with_header("Idempotency-Key", "order-42");
    let message = json!({"event_type": "order.created", "payload": {"n": 42}});

    let first = api.post("/v1/messages", message.clone()).await;
    assert_eq!(
        (first.status, first.header("idempotency-replayed")),
        (201, None),
        "{first}"
    );
    let again = api.post("/v1/messages", message).await;
    assert_eq!(
        (again.status, again.header("idempotency-replayed")),
        (200, Some("true")),
        "{again}"
    );
    assert_eq!(again.body, first.body);
    let other = json!({"event_type": "order.created", "payload": {"n": 43}});
    let refused = api.post("/v1/messages", other).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (409, &json!("idempotency_key_reused")),
        "{refused}"
    );

    let [delivery] = delivery_ids(&first.body).try_into().unwrap();
    tenant.wait_delivery(&delivery, "delivered", SOON).await;
    let messages = tenant.api.get("/v1/messages").await.expect(200);
    assert_eq!(messages["data"].as_array().unwrap().len(), 1, "{messages}");
    assert_eq!(receiver.count(), 1);
    world.stop().await;
}
