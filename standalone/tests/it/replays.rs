//! Many dead letters at once.

use std::collections::HashSet;
use std::time::Duration;

use relaypost_testkit::{Receiver, Reply, Tenant, eventually};
use serde_json::{Value, json};

use crate::{SOON, id, world};

/// Enough for three hundred dead letters at thirty a second, on a busy machine.
const LATER: Duration = Duration::from_secs(60);

async fn dead_letters(tenant: &Tenant, filter: &Value) -> Value {
    let dry_run = json!({"filter": filter, "dry_run": true});
    let counted = tenant.api.post("/v1/dlq/replay", dry_run).await.expect(200);
    counted["count"].clone()
}

#[tokio::test]
async fn three_hundred_dead_letters_are_replayed_at_their_pace_beside_live_messages() {
    let world = world(&[
        ("RETRY_SCHEDULE", "0"),
        ("CIRCUIT_FAILURE_THRESHOLD", "100000"),
    ])
    .await;
    let (mended, healthy) = (Receiver::start().await, Receiver::start().await);
    mended.respond(Reply::Status(500));
    let tenant = world.tenant("acme").await;
    let (endpoint, _) = tenant.endpoint(&mended.url("/"), &["old"]).await;
    tenant.endpoint(&healthy.url("/"), &["live"]).await;
    let messages: Vec<Value> = (0..300)
        .map(|n| json!({"event_type": "old", "payload": {"n": n}}))
        .collect();
    let batch = json!({"messages": messages});
    let batch = tenant
        .api
        .post("/v1/messages/batch", batch)
        .await
        .expect(200);
    let published: HashSet<String> = batch["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| id(result).to_owned())
        .collect();
    let filter = json!({"endpoint_id": endpoint, "reason": "retries_exhausted"});
    eventually(LATER, || async {
        let count = dead_letters(&tenant, &filter).await;
        if count == 300 {
            Ok(())
        } else {
            Err(format!("{count} are dead"))
        }
    })
    .await;
    let before = mended.hits().len();

    mended.respond(Reply::Status(200));
    let wanted = json!({"filter": filter, "rate_per_s": 30});
    let job = tenant.api.post("/v1/dlq/replay", wanted).await.expect(202);
    assert_eq!(job["total"], 300, "{job}");
    let path = format!("/v1/replays/{}", id(&job));
    mended.wait_for(before + 1, SOON).await;
    for n in 0..20 {
        tenant.publish("live", json!({"n": n})).await;
    }
    healthy.wait_for(20, SOON).await;
    let running = tenant.api.get(&path).await.expect(200);
    assert_eq!(running["status"], "running", "{running}");
    assert!(running["released"].as_u64() < Some(300), "{running}");

    let done = eventually(LATER, || async {
        let job = tenant.api.get(&path).await.expect(200);
        if job["status"] == "completed" {
            Ok(job)
        } else {
            Err(job.to_string())
        }
    })
    .await;
    let outcomes = json!({"pending": 0, "delivered": 300, "dead": 0, "discarded": 0, "skipped": 0});
    assert_eq!(
        (&done["total"], &done["by_outcome"]),
        (&json!(300), &outcomes)
    );
    let hits = mended.hits().split_off(before);
    let ids: HashSet<String> = hits
        .iter()
        .filter_map(|hit| hit.header("webhook-id").map(str::to_owned))
        .collect();
    assert_eq!(
        (hits.len(), ids),
        (300, published),
        "each once, as it was known"
    );
    // Ten seconds' worth, of which the first second's may leave together when the workers were busy.
    let took = hits[299].at.duration_since(hits[0].at);
    assert!(took >= Duration::from_secs(8), "{took:?}");
    assert_eq!(dead_letters(&tenant, &json!({})).await, 0);
    world.stop().await;
}
