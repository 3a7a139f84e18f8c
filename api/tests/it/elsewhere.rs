//! Several API processes on one database. Each keeps in memory what decides where messages go, and none of them ever goes by
//! what another one has changed.

use std::time::Duration;

use relaypost_shared::{
    db::{Transaction, begin_write},
    store::fixtures::message,
};
use relaypost_testkit::eventually;
use sea_orm::{ConnectionTrait as _, DbBackend};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Answer, Api, api, support::Client};

const SOON: Duration = Duration::from_secs(20);

async fn publish(client: &Client, event_type: &str) -> Answer {
    let message = json!({"event_type": event_type, "payload": 1});
    client.post("/v1/messages", message).await
}

async fn receivers(client: &Client, event_type: &str) -> Vec<String> {
    let message = publish(client, event_type).await.expect(201);
    let deliveries = message["deliveries"].as_array().unwrap().iter();
    let endpoint = |one: &Value| one["endpoint_id"].as_str().unwrap().to_owned();
    deliveries.map(endpoint).collect()
}

#[tokio::test]
async fn a_message_goes_to_the_endpoints_of_its_moment_whichever_process_changed_them() {
    let api = api().await;
    let tenant = api.tenant().await;
    let there = api.elsewhere(&tenant.api);
    assert_eq!(receivers(&there, "a").await, [""; 0]);
    for _ in 0..5 {
        let endpoint = tenant.endpoint(&["a"]).await;
        let path = format!("/v1/endpoints/{endpoint}");
        assert_eq!(receivers(&there, "a").await, [endpoint.as_str()]);
        let other_type = json!({"event_types": ["b"]});
        tenant.api.patch(&path, other_type).await.expect(200);
        assert_eq!(receivers(&there, "a").await, [""; 0]);
        assert_eq!(receivers(&there, "b").await, [endpoint.as_str()]);
        tenant.api.delete(&path).await.expect(204);
        assert_eq!(receivers(&there, "b").await, [""; 0]);
    }
    api.stop().await;
}

#[tokio::test]
async fn a_message_is_held_to_the_event_type_of_its_moment_whichever_process_changed_it() {
    let api = api().await;
    let tenant = api.tenant().await;
    let there = api.elsewhere(&tenant.api);
    publish(&there, "a").await.expect(201);
    let text = json!({"name": "a", "schema": {"type": "string"}});
    tenant.api.post("/v1/event-types", text).await.expect(201);
    let refused = publish(&there, "a").await;
    assert_eq!(refused.status, 422, "{refused}");
    let number = json!({"schema": {"type": "number"}});
    tenant
        .api
        .patch("/v1/event-types/a", number)
        .await
        .expect(200);
    publish(&there, "a").await.expect(201);
    tenant.api.delete("/v1/event-types/a").await;
    let archived = publish(&there, "a").await;
    assert_eq!(
        archived.faults(422, "event_type_archived"),
        [""; 0],
        "{archived}"
    );
    api.stop().await;
}

#[tokio::test]
async fn one_tenants_changes_hold_up_nobody_else_and_are_nobody_elses() {
    let api = api().await;
    let (changing, other) = (api.tenant().await, api.tenant().await);
    let theirs = other.endpoint(&[]).await;
    let (changing_there, other_there) = (api.elsewhere(&changing.api), other.api.clone());
    for _ in 0..3 {
        let (new, to_other) = tokio::join!(changing.endpoint(&[]), receivers(&other_there, "a"));
        assert_eq!(to_other, [theirs.as_str()]);
        assert!(receivers(&changing_there, "a").await.contains(&new));
    }
    api.stop().await;
}

/// Nothing is stored in `messages` until the transaction ends.
async fn hold(api: &Api) -> Transaction {
    let held = begin_write(&api.db).await.unwrap();
    if api.db.get_database_backend() == DbBackend::Postgres {
        let lock = "LOCK TABLE messages IN EXCLUSIVE MODE";
        held.execute_unprepared(lock).await.unwrap();
    }
    held
}

/// 80 MiB of messages at once, of which 64 have room.
fn publish_much(client: &Client) -> JoinSet<Answer> {
    let message = json!({"event_type": "a", "payload": "x".repeat(200 << 10)});
    let mut requests = JoinSet::new();
    for _ in 0..400 {
        let (client, message) = (client.clone(), message.clone());
        requests.spawn(async move { client.post("/v1/messages", message).await });
    }
    requests
}

#[tokio::test]
async fn what_cannot_be_stored_yet_is_refused_once_too_much_waits_and_nothing_taken_in_is_lost() {
    let api = api().await;
    let tenant = api.tenant().await;
    let there = api.elsewhere(&tenant.api);
    publish(&there, "a").await.expect(201);
    let held = hold(&api).await;
    let mut requests = publish_much(&there);
    let refused = requests.join_next().await.unwrap().unwrap();
    assert_eq!(refused.faults(503, "unavailable"), [""; 0], "{refused}");
    assert!(refused.headers.contains_key("retry-after"));
    held.rollback().await.unwrap();
    let mut stored = 1;
    while let Some(answer) = requests.join_next().await {
        let answer = answer.unwrap();
        assert!([201, 503].contains(&answer.status), "{answer}");
        stored += u64::from(answer.status == 201);
    }
    assert_eq!(api.count::<message::Entity>().await, stored);
    publish(&there, "a").await.expect(201);
    api.stop().await;
}

#[tokio::test]
async fn what_waits_to_be_stored_takes_its_room_also_when_its_sender_has_gone() {
    let api = api().await;
    let tenant = api.tenant().await;
    let there = api.elsewhere(&tenant.api);
    publish(&there, "a").await.expect(201);
    let held = hold(&api).await;
    let mut requests = publish_much(&there);
    requests.join_next().await.unwrap().unwrap();
    requests.shutdown().await;
    let refused = publish_much(&there).join_next().await.unwrap().unwrap();
    assert_eq!(refused.faults(503, "unavailable"), [""; 0], "{refused}");
    held.rollback().await.unwrap();
    eventually(SOON, || async {
        let answer = publish(&there, "a").await;
        (answer.status == 201)
            .then_some(())
            .ok_or_else(|| answer.to_string())
    })
    .await;
    api.stop().await;
}
