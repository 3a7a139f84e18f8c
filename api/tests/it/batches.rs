//! Many at once.

use relaypost_shared::entities::idempotency_key;
use relaypost_shared::store::fixtures::{email, message};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, sea_query::Expr};
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
async fn a_batch_that_is_sent_again_with_its_key_is_answered_as_before() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keyed = tenant.api.header("Idempotency-Key", "nightly");
    let message = |n: u32| json!({"event_type": "a.b", "payload": n});
    let email = |to: &str| json!({"to": [to], "subject": "a", "text": "a"});
    for (path, list, good, other, bad) in [
        (
            "/v1/messages/batch",
            "messages",
            message(1),
            message(2),
            json!({"event_type": "a.b"}),
        ),
        (
            "/v1/emails/batch",
            "emails",
            email("a@example.com"),
            email("b@example.com"),
            email("nobody"),
        ),
    ] {
        let batch = json!({ list: [good, bad] });
        let first = keyed.post(path, batch.clone()).await;
        assert_eq!(statuses(&first.body), [201, 422], "{first}");
        assert!(!first.headers.contains_key("idempotency-replayed"));
        let again = api.elsewhere(&keyed).post(path, batch).await;
        assert_eq!((again.status, &again.bytes), (200, &first.bytes));
        assert_eq!(again.headers["idempotency-replayed"], "true");
        for changed in [json!({ list: [good] }), json!({ list: [good, other] })] {
            let refused = keyed.post(path, changed).await;
            assert_eq!(
                refused.faults(409, "idempotency_key_reused"),
                [""; 0],
                "{refused}"
            );
        }
    }
    assert_eq!(api.count::<message::Entity>().await, 1);
    assert_eq!(api.count::<email::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn a_batch_that_was_cut_off_goes_on_where_it_was() {
    let api = api().await;
    let tenant = api.tenant().await;
    let keyed = tenant.api.header("Idempotency-Key", "nightly");
    let one = |n: u32| json!({"event_type": "a.b", "payload": n});
    let batch = json!({"messages": [one(1), one(2), one(3)]});
    let first = keyed.post("/v1/messages/batch", batch.clone()).await;
    // As a process leaves it that dies behind the second item.
    let unanswered = idempotency_key::Column::Key.contains("as a whole");
    let of_the_third = idempotency_key::Column::Key.ends_with("#2");
    idempotency_key::Entity::update_many()
        .col_expr(
            idempotency_key::Column::Response,
            Expr::value(Vec::<u8>::new()),
        )
        .filter(unanswered)
        .exec(&api.db)
        .await
        .unwrap();
    idempotency_key::Entity::delete_many()
        .filter(of_the_third)
        .exec(&api.db)
        .await
        .unwrap();
    let second = keyed.post("/v1/messages/batch", batch.clone()).await;
    assert_eq!(statuses(&second.body), [200, 200, 201], "{second}");
    for n in 0..2 {
        assert_eq!(
            first.body["results"][n]["id"],
            second.body["results"][n]["id"]
        );
    }
    let third = keyed.post("/v1/messages/batch", batch).await;
    assert_eq!(third.bytes, second.bytes);
    api.stop().await;
}
