//! Dead letters and waiting deliveries: replayed, discarded, retried.

use poem::http::Method;
use relaypost_shared::{
    delivery::{ErrorClass, Reason, Status},
    store::fixtures::delivery,
};
use sea_orm::{ActiveModelTrait as _, Set};
use serde_json::{Value, json};

use crate::{
    api,
    dead::{audited, dead_email, dead_webhook, kill, listed, row},
    id,
};

#[tokio::test]
async fn a_dead_email_is_shown_with_its_fields_and_can_be_replayed() {
    let api = api().await;
    let tenant = api.tenant().await;
    let (delivery, email) = dead_email(&api, &tenant).await;
    let path = format!("/v1/emails/dlq/{delivery}");
    let shown = tenant.api.get(&path).await.expect(200);
    assert_eq!(
        (&shown["email_id"], &shown["recipient"]),
        (&json!(email), &json!("ann@example.com"))
    );
    assert_eq!(shown["attempts"][0]["error_class"], "smtp_5xx");
    let whole = tenant
        .api
        .get(&format!("/v1/emails/{email}"))
        .await
        .expect(200);
    for (field, value) in shown["payload"].as_object().unwrap() {
        assert_eq!(*value, whole[field], "{field}");
    }
    assert_eq!(shown["payload"]["html"], "<p>Hi</p>");
    let replayed = tenant
        .api
        .post(&format!("{path}/replay"), json!({}))
        .await
        .expect(202);
    assert_eq!(
        (&replayed["kind"], &replayed["status"]),
        (&json!("email"), &json!("pending"))
    );
    assert_eq!(listed(&tenant, "/v1/emails/dlq").await, [""; 0]);
    api.stop().await;
}

#[tokio::test]
async fn replaying_twice_queues_once_and_leaves_one_entry_in_the_audit_log() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let delivery = dead_webhook(&api, &tenant, "a.b").await;
    api.advance(60);
    let path = format!("/v1/webhooks/dlq/{delivery}/replay");
    let by = tenant.api.header("x-request-id", "fix-7");
    let first = by.send(Method::POST, &path, None).await.expect(202);
    assert_eq!(
        [
            &first["id"],
            &first["status"],
            &first["attempt_count"],
            &first["reason"],
            &first["next_attempt_at"]
        ],
        [
            &json!(delivery),
            &json!("pending"),
            &json!(1),
            &Value::Null,
            &Value::Null
        ]
    );
    let queued = row(&api, &delivery).await;
    assert_eq!(
        (
            queued.dispatch_at,
            queued.replayed_at,
            queued.schedule_start,
            queued.dead_at
        ),
        (Some(api.clock.now()), Some(api.clock.now()), 1, None)
    );
    api.advance(1);
    let again = tenant.api.post(&path, json!({})).await.expect(202);
    assert_eq!((again, row(&api, &delivery).await), (first, queued));
    let [[actor, action, target, request]] = audited(&api).await.try_into().unwrap();
    assert!(actor.starts_with("key_"), "{actor}");
    assert_eq!(
        [action, target, request],
        ["dead_letter.replayed", delivery.as_str(), "fix-7"]
    );
    assert_eq!(listed(&tenant, "/v1/webhooks/dlq").await, [""; 0]);

    // A later death is another one, and can be replayed again.
    kill(
        &api,
        &delivery,
        Reason::RetriesExhausted,
        ErrorClass::Http5xx,
    )
    .await;
    api.root()
        .header("x-tenant-id", &tenant.id)
        .post(&path, json!({}))
        .await
        .expect(202);
    assert_eq!(row(&api, &delivery).await.schedule_start, 2);
    assert_eq!(audited(&api).await[1][0], "platform");
    api.stop().await;
}

#[tokio::test]
async fn a_replay_takes_an_idempotency_key_that_it_does_not_need() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let delivery = dead_webhook(&api, &tenant, "a.b").await;
    let path = format!("/v1/webhooks/dlq/{delivery}/replay");
    let keyed = tenant.api.header("Idempotency-Key", "again");
    for _ in 0..2 {
        keyed.post(&path, json!({})).await.expect(202);
    }
    assert_eq!(audited(&api).await.len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn many_replays_at_once_take_effect_once() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let delivery = dead_webhook(&api, &tenant, "a.b").await;
    let path = format!("/v1/webhooks/dlq/{delivery}/replay");
    let pressed = (0..20).map(|_| tenant.api.post(&path, json!({})));
    for answer in futures::future::join_all(pressed).await {
        answer.expect(202);
    }
    assert_eq!(audited(&api).await.len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn what_is_discarded_is_gone_from_the_queue_for_good() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let delivery = dead_webhook(&api, &tenant, "a.b").await;
    let path = format!("/v1/webhooks/dlq/{delivery}");
    let deleted = tenant.api.delete(&path).await;
    assert_eq!((deleted.status, deleted.bytes.len()), (204, 0));
    assert_eq!(listed(&tenant, "/v1/webhooks/dlq").await, [""; 0]);
    tenant.api.get(&path).await.expect(404);
    tenant.api.delete(&path).await.expect(404);
    tenant
        .api
        .post(&format!("{path}/replay"), json!({}))
        .await
        .expect(404);
    let retry = format!("/v1/deliveries/{delivery}/retry");
    let refused = tenant.api.post(&retry, json!({})).await;
    assert_eq!(
        refused.faults(409, "already_discarded"),
        [""; 0],
        "{refused}"
    );
    assert_eq!(
        listed(&tenant, "/v1/deliveries?status=discarded").await,
        [delivery.as_str()]
    );
    let [[_, action, target, _]] = audited(&api).await.try_into().unwrap();
    assert_eq!(
        [action, target],
        ["dead_letter.discarded", delivery.as_str()]
    );
    api.stop().await;
}

#[tokio::test]
async fn retrying_makes_due_what_waits_and_replays_what_is_dead() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let later = json!({"event_type": "a.b", "payload": 1, "deliver_at": "2026-01-31T10:30:00Z"});
    let waiting = tenant.api.post("/v1/messages", later).await.expect(201);
    let waiting = id(&waiting["deliveries"][0]);
    let due = id(&tenant.publish("a.b").await["deliveries"][0]);
    let dead = dead_webhook(&api, &tenant, "a.b").await;
    let (email, _) = dead_email(&api, &tenant).await;
    for delivery in [&waiting, &due, &dead, &email] {
        for _ in 0..2 {
            let retry = format!("/v1/deliveries/{delivery}/retry");
            let retried = tenant.api.post(&retry, json!({})).await.expect(202);
            assert_eq!(
                (&retried["status"], &retried["next_attempt_at"]),
                (&json!("pending"), &Value::Null)
            );
        }
    }
    let now = Some(api.clock.now());
    let (hastened, left) = (row(&api, &waiting).await, row(&api, &due).await);
    assert_eq!((hastened.dispatch_at, hastened.replayed_at), (now, None));
    assert_eq!((left.dispatch_at, left.replayed_at), (None, None));
    assert_eq!(row(&api, &dead).await.replayed_at, now);
    let done: Vec<[String; 2]> = audited(&api)
        .await
        .into_iter()
        .map(|[_, action, target, _]| [action, target])
        .collect();
    let wanted = [
        ("delivery.retried", waiting),
        ("dead_letter.replayed", dead),
        ("dead_letter.replayed", email),
    ];
    assert_eq!(
        done,
        wanted.map(|(action, target)| [action.to_owned(), target])
    );
    api.stop().await;
}

#[tokio::test]
async fn what_was_delivered_is_not_retried() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let delivery = id(&tenant.publish("a.b").await["deliveries"][0]);
    delivery::ActiveModel {
        id: Set(delivery.parse().unwrap()),
        status: Set(Status::Delivered),
        ..Default::default()
    }
    .update(&api.db)
    .await
    .unwrap();
    let retry = format!("/v1/deliveries/{delivery}/retry");
    let refused = tenant.api.post(&retry, json!({})).await;
    assert_eq!(
        refused.faults(409, "already_delivered"),
        [""; 0],
        "{refused}"
    );
    assert_eq!(audited(&api).await.len(), 0);
    api.stop().await;
}
