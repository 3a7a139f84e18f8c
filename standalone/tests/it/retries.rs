//! Webhooks that fail.

use relaypost_testkit::{Receiver, Reply, eventually};
use serde_json::json;

use crate::journeys::assert_attempt;
use crate::{SOON, delivery_ids, verifies, world};

#[tokio::test]
async fn a_failing_endpoint_gets_it_at_the_third_attempt() {
    // Two seconds, less jitter, before the last attempt: its timestamp, in whole seconds, has to be a later one.
    let world = world(&[("RETRY_SCHEDULE", "0,2")]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::statuses_then(&[500, 500], Reply::Status(200)));
    let tenant = world.tenant("acme").await;
    let (_, secret) = tenant.endpoint(&receiver.url("/"), &[]).await;

    let accepted = tenant.publish("order.created", json!({"n": 1})).await;
    let [delivery] = delivery_ids(&accepted).try_into().unwrap();
    let delivered = tenant.wait_delivery(&delivery, "delivered", SOON).await;
    assert_eq!(delivered["attempt_count"], 3, "{delivered}");
    let attempts = tenant.attempts(&delivery).await;
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    for (attempt, (number, status)) in attempts.iter().zip([(1, 500), (2, 500), (3, 200)]) {
        assert_attempt(attempt, number, status);
    }

    let hits = receiver.hits();
    assert_eq!(hits.len(), 3);
    assert!(hits.iter().all(|hit| verifies(hit, &secret)));
    assert!(
        hits.iter()
            .all(|hit| hit.header("webhook-id") == hits[0].header("webhook-id"))
    );
    assert!(hits.iter().all(|hit| hit.body == hits[0].body));
    let sent_at = |hit: usize| {
        hits[hit]
            .header("webhook-timestamp")
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(sent_at(2) > sent_at(0), "{} and {}", sent_at(2), sent_at(0));
    world.stop().await;
}

#[tokio::test]
async fn a_schedule_that_ends_makes_a_dead_letter() {
    let world = world(&[("RETRY_SCHEDULE", "0,0")]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Body {
        status: 503,
        bytes: b"out of order".to_vec(),
    });
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;

    let accepted = tenant.publish("order.created", json!({"n": 1})).await;
    let [delivery] = delivery_ids(&accepted).try_into().unwrap();
    let dead = tenant.wait_delivery(&delivery, "dead", SOON).await;
    assert_eq!(
        (&dead["reason"], &dead["attempt_count"]),
        (&json!("retries_exhausted"), &json!(3)),
        "{dead}"
    );
    assert!(dead["next_attempt_at"].is_null(), "{dead}");
    assert!(dead["error_class"].is_string(), "{dead}");
    let attempts = tenant.attempts(&delivery).await;
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    assert_eq!(
        attempts[2]["response_snippet"], "out of order",
        "{attempts:?}"
    );
    assert_eq!(receiver.count(), 3);
    world.stop().await;
}

#[tokio::test]
async fn deleting_an_endpoint_ends_what_waits_for_it() {
    let world = world(&[("RETRY_SCHEDULE", "3600")]).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Status(500));
    let tenant = world.tenant("acme").await;
    let (endpoint, _) = tenant.endpoint(&receiver.url("/"), &[]).await;
    let mut deliveries = Vec::new();
    for n in 0..3 {
        deliveries.extend(delivery_ids(
            &tenant.publish("order.created", json!({"n": n})).await,
        ));
    }
    for delivery in &deliveries {
        eventually(SOON, || async {
            let waiting = tenant
                .api
                .get(&format!("/v1/deliveries/{delivery}"))
                .await
                .expect(200);
            let ready = waiting["status"] == "pending" && waiting["attempt_count"] == 1;
            if ready {
                Ok(())
            } else {
                Err(waiting.to_string())
            }
        })
        .await;
    }

    let path = format!("/v1/endpoints/{endpoint}");
    tenant.api.delete(&path).await.success();
    for delivery in &deliveries {
        let dead = tenant.wait_delivery(delivery, "dead", SOON).await;
        assert_eq!(dead["reason"], "endpoint_deleted", "{dead}");
    }
    tenant.api.get(&path).await.expect(404);
    assert_eq!(receiver.count(), 3);
    world.stop().await;
}
