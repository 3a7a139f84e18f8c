//! Many at once.

use relaypost_shared::entities::{email, message};
use serde_json::{Value, json};

use crate::api;

fn statuses(answer: &Value) -> Vec<u64> {
    let results = answer["results"].as_array().unwrap().iter();
    results.map(|one| one["status"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_message_of_a_batch_is_published_or_refused_by_itself() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let good = json!({"event_type": "a.b", "payload": {"n": 1}});
    let batch = json!({"messages": [
        good, {"event_type": "a b", "payload": 1}, {"event_type": "a.b"}, 7, {"event_type": "a.b", "payload": null},
        ["a.b", 1],
    ]});
    let answer = tenant
        .api
        .post("/v1/messages/batch", batch)
        .await
        .expect(200);
    assert_eq!(
        statuses(&answer),
        [201, 422, 422, 422, 201, 422],
        "{answer}"
    );
    assert!(
        answer["results"][0]["id"]
            .as_str()
            .unwrap()
            .starts_with("msg_")
    );
    assert_eq!(
        answer["results"][1]["error"]["errors"][0]["path"],
        "event_type"
    );
    assert_eq!(answer["results"][2]["error"]["code"], "validation_failed");
    assert_eq!(
        answer["results"][5]["error"]["errors"],
        json!([{"path": "", "message": "expected an object"}])
    );
    assert_eq!(api.count::<message::Entity>().await, 2);
    api.stop().await;
}

#[tokio::test]
async fn each_email_of_a_batch_is_taken_or_refused_by_itself() {
    let api = api().await;
    let tenant = api.tenant().await;
    let good =
        json!({"from": "a@example.test", "to": ["b@example.test"], "subject": "s", "text": "t"});
    let bad = json!({"from": "a@example.test", "to": ["nobody"], "subject": "s", "text": "t"});
    let batch = json!({"emails": [bad, good]});
    let answer = tenant.api.post("/v1/emails/batch", batch).await.expect(200);
    assert_eq!(statuses(&answer), [422, 201], "{answer}");
    assert_eq!(api.count::<email::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn a_batch_has_bounds() {
    let api = api().await;
    let tenant = api.tenant().await;
    let message = json!({"event_type": "a.b", "payload": 1});
    for count in [0, 501] {
        let batch = json!({"messages": vec![message.clone(); count]});
        let answer = tenant.api.post("/v1/messages/batch", batch).await;
        assert!(
            answer.faults(422, "validation_failed").is_empty(),
            "{answer}"
        );
        assert_eq!(answer.body["errors"][0]["path"], "messages");
    }
    let batch = json!({"messages": vec![message; 500]});
    let answer = tenant
        .api
        .post("/v1/messages/batch", batch)
        .await
        .expect(200);
    assert_eq!(statuses(&answer), vec![201; 500]);
    assert_eq!(api.count::<message::Entity>().await, 500);
    api.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_sent_again_with_its_key_creates_only_what_is_new() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keyed = tenant.api.header("Idempotency-Key", "nightly");
    let one = |n: u32| json!({"event_type": "a.b", "payload": n});
    let first = keyed
        .post("/v1/messages/batch", json!({"messages": [one(1), one(2)]}))
        .await
        .expect(200);
    let again = json!({"messages": [one(1), one(9), one(3)]});
    let second = keyed.post("/v1/messages/batch", again).await.expect(200);
    assert_eq!(statuses(&second), [200, 409, 201], "{second}");
    assert_eq!(first["results"][0]["id"], second["results"][0]["id"]);
    assert_eq!(
        second["results"][1]["error"]["code"],
        "idempotency_key_reused"
    );
    assert_eq!(api.count::<message::Entity>().await, 3);
    api.stop().await;
}
