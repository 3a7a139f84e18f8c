//! Deliveries that die, and what an operator does about them.

use relaypost_testkit::{Receiver, Reply};
use serde_json::{Value, json};

use crate::{SOON, delivery_ids, id, verifies, world};

#[tokio::test]
async fn a_dead_webhook_arrives_when_it_is_replayed_after_the_receiver_was_mended() {
    let world = world(&[("RETRY_SCHEDULE", "0")]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Status(500));
    let tenant = world.tenant("acme").await;
    let (_, secret) = tenant.endpoint(&receiver.url("/"), &[]).await;
    let accepted = tenant.publish("order.created", json!({"n": 1})).await;
    let [delivery] = delivery_ids(&accepted).try_into().unwrap();
    tenant.wait_delivery(&delivery, "dead", SOON).await;
    let listed = tenant.api.get("/v1/webhooks/dlq").await.expect(200);
    assert_eq!(id(&listed["data"][0]), delivery, "{listed}");
    let letter = format!("/v1/webhooks/dlq/{delivery}");
    let shown = tenant.api.get(&letter).await.expect(200);
    assert_eq!(shown["payload"], json!({"n": 1}), "{shown}");
    assert_eq!(shown["attempts"].as_array().map(Vec::len), Some(2));

    receiver.respond(Reply::Status(200));
    let replay = format!("{letter}/replay");
    let replayed = tenant.api.post(&replay, Value::Null).await.expect(202);
    assert_eq!(id(&replayed), delivery, "{replayed}");
    let delivered = tenant.wait_delivery(&delivery, "delivered", SOON).await;
    assert_eq!(delivered["attempt_count"], 3, "{delivered}");
    let attempts = tenant.attempts(&delivery).await;
    let numbers: Vec<&Value> = attempts.iter().map(|attempt| &attempt["number"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let hits = receiver.hits();
    assert_eq!(hits.len(), 3);
    assert!(
        hits.iter().all(
            |hit| verifies(hit, &secret) && hit.header("webhook-id") == accepted["id"].as_str()
        )
    );
    let listed = tenant.api.get("/v1/webhooks/dlq").await.expect(200);
    assert_eq!(listed["data"], json!([]), "{listed}");
    tenant.api.post(&replay, Value::Null).await.expect(404);
    world.stop().await;
}

#[tokio::test]
async fn a_dead_email_arrives_when_it_is_replayed() {
    let world = world(&[]).await;
    world
        .smtp
        .respond_rcpt(|_| Some((550, "5.1.1 no such user".into())));
    let tenant = world.tenant("acme").await;
    let email = json!({"to": ["ann@example.test"], "subject": "Hello", "text": "Hello"});
    let accepted = tenant.api.post("/v1/emails", email).await.expect(201);
    let [delivery] = delivery_ids(&accepted).try_into().unwrap();
    let dead = tenant.wait_delivery(&delivery, "dead", SOON).await;
    assert_eq!(dead["reason"], "invalid_recipient", "{dead}");

    world.smtp.respond_rcpt(|_| None);
    let replay = format!("/v1/emails/dlq/{delivery}/replay");
    tenant.api.post(&replay, Value::Null).await.expect(202);
    tenant.wait_delivery(&delivery, "delivered", SOON).await;
    assert_eq!(world.smtp.mails().len(), 1);
    let listed = tenant.api.get("/v1/emails/dlq").await.expect(200);
    assert_eq!(listed["data"], json!([]), "{listed}");
    world.stop().await;
}

#[tokio::test]
async fn a_waiting_delivery_is_tried_at_once_when_somebody_asks_for_it() {
    let world = world(&[("RETRY_SCHEDULE", "3600")]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::statuses_then(&[500], Reply::Status(200)));
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    let accepted = tenant.publish("order.created", json!({"n": 1})).await;
    let [delivery] = delivery_ids(&accepted).try_into().unwrap();
    relaypost_testkit::eventually(SOON, || async {
        let path = format!("/v1/deliveries/{delivery}");
        let waiting = tenant.api.get(&path).await.expect(200);
        if waiting["next_attempt_at"].is_string() {
            Ok(())
        } else {
            Err(waiting.to_string())
        }
    })
    .await;
    let retry = format!("/v1/deliveries/{delivery}/retry");
    tenant.api.post(&retry, Value::Null).await.expect(202);
    tenant.wait_delivery(&delivery, "delivered", SOON).await;
    let refused = tenant.api.post(&retry, Value::Null).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (409, &json!("already_delivered")),
        "{refused}"
    );
    world.stop().await;
}

#[tokio::test]
async fn live_webhooks_do_not_wait_behind_replays_that_hang() {
    let slots = [("WEBHOOK_CONCURRENCY", "2"), ("BULK_CONCURRENCY", "2")];
    let slow = [("RETRY_SCHEDULE", "0"), ("WEBHOOK_TIMEOUT_MS", "60000")];
    // It is about slots: the circuit of the endpoint that hangs stays closed.
    let circuit = [("CIRCUIT_FAILURE_THRESHOLD", "1000")];
    let world = world(&[&slots[..], &slow, &circuit].concat()).await;
    let (stuck, healthy) = (Receiver::start().await, Receiver::start().await);
    stuck.respond(Reply::Status(500));
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&stuck.url("/"), &["stuck"]).await;
    tenant.endpoint(&healthy.url("/"), &["live"]).await;
    let mut dead = Vec::new();
    for n in 0..8 {
        dead.extend(delivery_ids(&tenant.publish("stuck", json!(n)).await));
    }
    for delivery in &dead {
        tenant.wait_delivery(delivery, "dead", SOON).await;
    }

    stuck.respond(Reply::Hang);
    for delivery in &dead {
        let replay = format!("/v1/webhooks/dlq/{delivery}/replay");
        tenant.api.post(&replay, Value::Null).await.expect(202);
    }
    stuck.wait_in_flight(2, SOON).await;
    for n in 0..8 {
        tenant.publish("live", json!(n)).await;
    }
    healthy.wait_for(8, SOON).await;
    stuck.release();
    for delivery in &dead {
        tenant.wait_delivery(delivery, "delivered", SOON).await;
    }
    world.stop().await;
}
