//! Endpoints in trouble, as their owner sees them through the API.

use relaypost_testkit::{Receiver, Reply, Tenant, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{SOON, delivery_ids, world};

async fn endpoint(tenant: &Tenant, id: &str) -> Value {
    tenant
        .api
        .get(&format!("/v1/endpoints/{id}"))
        .await
        .expect(200)
}

async fn control(tenant: &Tenant, id: &str, what: &str) -> Value {
    let path = format!("/v1/endpoints/{id}/{what}");
    tenant.api.send(Method::POST, &path, None).await.expect(200)
}

/// Publishes a message and returns its only delivery.
async fn publish(tenant: &Tenant) -> String {
    let accepted = tenant.publish("order.created", json!({"n": 1})).await;
    let [delivery] = delivery_ids(&accepted).try_into().unwrap();
    delivery
}

async fn wait_parked(tenant: &Tenant, delivery: &str) {
    let path = format!("/v1/deliveries/{delivery}");
    eventually(SOON, || async {
        let row = tenant.api.get(&path).await.expect(200);
        if row["parked"].is_object() {
            Ok(())
        } else {
            Err(row.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn a_circuit_opens_holds_back_and_lets_everything_go_once_the_endpoint_works_again() {
    let world = world(&[
        ("CIRCUIT_FAILURE_THRESHOLD", "2"),
        ("CIRCUIT_OPEN_SECONDS", "1"),
        ("CIRCUIT_PROBES", "1"),
        ("RETRY_SCHEDULE", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"),
    ])
    .await;
    let (receiver, operators) = (Receiver::start().await, Receiver::start().await);
    let tenant = world.tenant("acme").await;
    let (broken, _) = tenant
        .endpoint(&receiver.url("/"), &["order.created"])
        .await;
    tenant
        .endpoint(&operators.url("/"), &["circuit.opened", "circuit.closed"])
        .await;
    receiver.respond(Reply::Status(500));
    let mut deliveries = Vec::new();
    for _ in 0..5 {
        deliveries.push(publish(&tenant).await);
    }
    let seen = eventually(SOON, || async {
        let seen = endpoint(&tenant, &broken).await;
        if seen["circuit"]["state"] == "closed" {
            Err(seen.to_string())
        } else {
            Ok(seen)
        }
    })
    .await;
    assert_eq!(seen["circuit"]["history"][0]["why"], "failures", "{seen}");
    let stats = tenant.api.get("/v1/stats").await.expect(200);
    assert!(
        stats["last_5_minutes"]["accepted"].as_i64().unwrap() >= 5,
        "{stats}"
    );

    receiver.respond(Reply::Status(200));
    for delivery in &deliveries {
        tenant.wait_delivery(delivery, "delivered", SOON).await;
    }
    let seen = endpoint(&tenant, &broken).await;
    assert_eq!(seen["circuit"]["state"], "closed", "{seen}");
    let told = eventually(SOON, || async {
        let told: Vec<Value> = operators
            .hits()
            .iter()
            .map(|hit| serde_json::from_slice(&hit.body).unwrap())
            .collect();
        let kinds: Vec<&str> = told.iter().filter_map(|one| one["type"].as_str()).collect();
        if kinds.contains(&"circuit.closed") {
            Ok(told.clone())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    assert!(
        told.iter().all(|one| one["data"]["endpoint_id"] == broken),
        "{told:?}"
    );
    let opened = told
        .iter()
        .filter(|one| one["type"] == "circuit.opened")
        .count();
    assert_eq!(opened, 1, "told once: {told:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_paused_endpoint_gets_what_was_kept_for_it_when_it_is_resumed() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (id, _) = tenant.endpoint(&receiver.url("/"), &[]).await;
    assert_eq!(control(&tenant, &id, "pause").await["status"], "paused");
    let kept = publish(&tenant).await;
    wait_parked(&tenant, &kept).await;
    let stats = tenant.api.get("/v1/stats").await.expect(200);
    assert_eq!(stats["parked"], 1, "{stats}");
    assert_eq!(receiver.count(), 0);
    assert_eq!(control(&tenant, &id, "resume").await["status"], "active");
    tenant.wait_delivery(&kept, "delivered", SOON).await;
    assert_eq!(receiver.count(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_circuit_can_be_opened_and_closed_by_hand() {
    let world = world(&[("CIRCUIT_OPEN_SECONDS", "1")]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (id, _) = tenant.endpoint(&receiver.url("/"), &[]).await;
    let operators = Receiver::start().await;
    tenant
        .endpoint(&operators.url("/"), &["circuit.opened", "circuit.closed"])
        .await;
    let opened = control(&tenant, &id, "circuit/open").await;
    assert_eq!(opened["circuit"]["state"], "open");
    assert!(
        opened["circuit"]["retry_at"].is_null(),
        "no probe is planned: {opened}"
    );
    let kept = publish(&tenant).await;
    wait_parked(&tenant, &kept).await;
    let stats = tenant.api.get("/v1/stats").await.expect(200);
    assert_eq!(stats["circuits"][0]["endpoint_id"], id.as_str(), "{stats}");
    assert_eq!(
        control(&tenant, &id, "circuit/close").await["circuit"]["state"],
        "closed"
    );
    tenant.wait_delivery(&kept, "delivered", SOON).await;
    operators.wait_for(2, SOON).await;
    let mut told: Vec<Value> = operators
        .hits()
        .iter()
        .map(|hit| serde_json::from_slice(&hit.body).unwrap())
        .collect();
    told.sort_by_key(|one| one["type"].to_string());
    assert_eq!(told[0]["type"], "circuit.closed");
    assert_eq!(told[1]["type"], "circuit.opened");
    assert_eq!(told[1]["data"]["endpoint_id"], id.as_str());

    control(&tenant, &id, "circuit/open").await;
    tenant
        .api
        .delete(&format!("/v1/endpoints/{id}"))
        .await
        .expect(204);
    let stats = tenant.api.get("/v1/stats").await.expect(200);
    assert_eq!(
        stats["circuits"],
        json!([]),
        "of a deleted endpoint: {stats}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_test_goes_the_real_way_and_its_result_comes_back() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (id, secret) = tenant
        .endpoint(&receiver.url("/"), &["order.created"])
        .await;
    control(&tenant, &id, "pause").await;
    let result = control(&tenant, &id, "test").await;
    assert_eq!(result["delivered"], true, "{result}");
    assert_eq!(result["attempt"]["http_status"], 200, "{result}");
    assert!(crate::verifies(&receiver.hits()[0], &secret));

    receiver.respond(Reply::Status(500));
    let result = control(&tenant, &id, "test").await;
    assert_eq!(result["delivered"], false, "{result}");
    assert_eq!(result["attempt"]["error_class"], "http_5xx", "{result}");
    let dead = tenant.api.get("/v1/webhooks/dlq").await.expect(200);
    assert_eq!(dead["data"], json!([]), "a test is no dead letter");
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_answers_410_is_disabled_until_it_is_resumed() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (id, _) = tenant.endpoint(&receiver.url("/"), &[]).await;
    receiver.respond(Reply::Status(410));
    let dead = publish(&tenant).await;
    let dead = tenant.wait_delivery(&dead, "dead", SOON).await;
    assert_eq!(dead["reason"], "endpoint_disabled", "{dead}");
    let seen = endpoint(&tenant, &id).await;
    assert_eq!(
        (&seen["status"], &seen["disabled_reason"]),
        (&json!("disabled"), &json!("gone"))
    );
    let missed = tenant.publish("order.created", json!({})).await;
    assert_eq!(missed["deliveries"], json!([]), "it takes nothing");
    let path = format!("/v1/endpoints/{id}/pause");
    let refused = tenant.api.send(Method::POST, &path, None).await.expect(409);
    assert_eq!(refused["code"], "endpoint_disabled");

    receiver.respond(Reply::Status(200));
    let seen = control(&tenant, &id, "resume").await;
    assert_eq!(seen["status"], "active");
    assert!(seen["disabled_reason"].is_null(), "{seen}");
    let delivery = publish(&tenant).await;
    tenant.wait_delivery(&delivery, "delivered", SOON).await;
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_takes_no_more_places_than_it_may_and_delays_nobody() {
    let world = world(&[("WEBHOOK_CONCURRENCY", "8"), ("WEBHOOK_MAX_IN_FLIGHT", "3")]).await;
    let (hanging, healthy) = (Receiver::start().await, Receiver::start().await);
    hanging.respond(Reply::Hang);
    let (tenant, other) = (world.tenant("acme").await, world.tenant("other").await);
    tenant.endpoint(&hanging.url("/"), &["stuck"]).await;
    tenant.endpoint(&healthy.url("/"), &["order.created"]).await;
    other.endpoint(&healthy.url("/"), &[]).await;
    for n in 0..40 {
        tenant.publish("stuck", json!(n)).await;
    }
    hanging.wait_in_flight(3, SOON).await;
    for _ in 0..10 {
        publish(&tenant).await;
        publish(&other).await;
    }
    healthy.wait_for(20, SOON).await;
    assert_eq!((hanging.in_flight(), hanging.count()), (3, 3));
    world.stop().await;
}

#[tokio::test]
async fn an_ordered_endpoint_gets_everything_once_and_in_the_order_accepted() {
    let world = world(&[("RETRY_SCHEDULE", "0,0,0,0")]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::statuses_then(
        &[200, 500, 200, 500, 500, 200, 500],
        Reply::Status(200),
    ));
    let tenant = world.tenant("acme").await;
    let body = json!({"url": receiver.url("/"), "ordering": "fifo"});
    tenant.endpoint_with(body).await;
    let (mut accepted, mut last) = (Vec::new(), String::new());
    for n in 0..30 {
        let message = tenant.publish("order.created", json!({"n": n})).await;
        accepted.push(crate::id(&message).to_owned());
        [last] = delivery_ids(&message).try_into().unwrap();
    }
    tenant.wait_delivery(&last, "delivered", SOON).await;
    let mut arrived: Vec<String> = receiver
        .hits()
        .iter()
        .map(|hit| hit.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(arrived.len(), 30 + 4, "each failure is one more");
    arrived.dedup();
    assert_eq!(arrived, accepted);
    world.stop().await;
}

#[tokio::test]
async fn whoever_presses_pause_or_resume_at_the_same_time_gets_the_same_answer() {
    let world = world(&[]).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    let (id, _) = tenant.endpoint(&receiver.url("/"), &[]).await;
    for (what, status) in [("pause", "paused"), ("resume", "active")] {
        let presses = (0..8).map(|_| control(&tenant, &id, what));
        for answer in futures::future::join_all(presses).await {
            assert_eq!(answer["status"], status);
        }
    }
    world.stop().await;
}
