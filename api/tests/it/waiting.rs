//! What waits for its time: cancelled, given another time, or too late.

use relaypost_shared::{
    delivery::{Reason, Status},
    ids::DeliveryId,
    store::fixtures::delivery,
};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, Set};
use serde_json::{Value, json};

use crate::{
    Api, api,
    dead::audited,
    id,
    support::{Tenant, ids},
};

/// Both kinds of what can wait: where they are handed in, the field of their time, and a body.
fn kinds() -> [(&'static str, &'static str, Value); 2] {
    let email =
        json!({"to": ["a@example.com", "b@example.com"], "subject": "Hello", "text": "Hello"});
    [
        (
            "/v1/messages",
            "deliver_at",
            json!({"event_type": "order.created", "payload": {"n": 1}}),
        ),
        ("/v1/emails", "send_at", email),
    ]
}

/// Hands in one that waits an hour, with two deliveries.
async fn waiting(tenant: &Tenant, path: &str, field: &str, mut body: Value) -> Value {
    body[field] = json!("2026-01-31T10:30:00Z");
    let accepted = tenant.api.post(path, body).await.expect(201);
    assert_eq!(accepted["deliveries"].as_array().unwrap().len(), 2);
    accepted
}

async fn rows(api: &Api, accepted: &Value) -> Vec<delivery::Model> {
    let mut rows = Vec::new();
    for id in ids(&accepted["deliveries"]) {
        let id: DeliveryId = id.parse().unwrap();
        let row = delivery::Entity::find_by_id(id).one(&api.db).await.unwrap();
        rows.push(row.unwrap());
    }
    rows
}

async fn actions(api: &Api) -> Vec<(String, String)> {
    let entries = audited(api).await.into_iter();
    entries
        .map(|[_, action, target, _]| (action, target))
        .collect()
}

async fn tenant_with_endpoints(api: &Api) -> Tenant {
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    tenant.endpoint(&[]).await;
    tenant
}

#[tokio::test]
async fn what_waits_for_its_time_can_be_cancelled_and_twice_is_once() {
    let api = api().await;
    let (tenant, other) = (tenant_with_endpoints(&api).await, api.tenant().await);
    for (path, field, body) in kinds() {
        let accepted = waiting(&tenant, path, field, body).await;
        let cancel = format!("{path}/{}/cancel", id(&accepted));
        let foreign = other.api.post(&cancel, json!({})).await;
        assert_eq!(foreign.faults(404, "not_found"), [""; 0], "{foreign}");

        let cancelled = tenant.api.post_bytes(&cancel, "").await.expect(200);
        assert_eq!(id(&cancelled), id(&accepted));
        for shown in cancelled["deliveries"].as_array().unwrap() {
            assert_eq!(shown["status"], "discarded");
            assert_eq!(shown["reason"], "cancelled");
            assert_eq!(shown.get("next_attempt_at"), None);
            assert_eq!(shown["finished_at"], "2026-01-31T09:30:00.000Z");
        }
        for row in rows(&api, &accepted).await {
            assert_eq!((row.next_attempt_at, row.dispatch_at), (None, None));
            assert_eq!((row.attempt_count, row.dead_at), (0, None));
        }
        api.advance(7_200);
        let keyed = tenant.api.header("idempotency-key", "not needed");
        let again = keyed.post_bytes(&cancel, "").await.expect(200);
        assert_eq!(again, cancelled);
        let later = json!({field: "2026-02-01T00:00:00Z"});
        let refused = tenant
            .api
            .patch(&format!("{path}/{}", id(&accepted)), later)
            .await;
        assert_eq!(
            refused.faults(409, "already_cancelled"),
            [""; 0],
            "{refused}"
        );
        api.advance(-7_200);
        let of = if field == "send_at" {
            "email"
        } else {
            "message"
        };
        let entry = (format!("{of}.cancelled"), id(&accepted));
        assert_eq!(actions(&api).await.last(), Some(&entry));
    }
    assert_eq!(actions(&api).await.len(), 2, "twice is one entry");
    api.stop().await;
}

#[tokio::test]
async fn what_is_due_or_was_tried_can_be_neither_cancelled_nor_rescheduled() {
    let api = api().await;
    let tenant = tenant_with_endpoints(&api).await;
    for (path, field, body) in kinds() {
        let refused = async |accepted: &Value, why: &str| {
            let before = rows(&api, accepted).await;
            let one = format!("{path}/{}", id(accepted));
            let later = json!({field: "2026-02-01T00:00:00Z"});
            for answer in [
                tenant.api.post_bytes(&format!("{one}/cancel"), "").await,
                tenant.api.patch(&one, later).await,
            ] {
                assert_eq!(answer.faults(409, "too_late"), [""; 0], "{why}: {answer}");
            }
            assert_eq!(rows(&api, accepted).await, before, "{why}");
            let shown = tenant.api.get(&one).await.expect(200);
            assert_eq!(shown.get(field), accepted.get(field), "{why}");
        };
        let now = tenant.api.post(path, body.clone()).await.expect(201);
        refused(&now, "due from the beginning").await;

        let accepted = waiting(&tenant, path, field, body.clone()).await;
        api.advance(3_599);
        // A worker whose clock is a second ahead may be sending it.
        refused(&accepted, "due in a second").await;
        api.advance(1);
        refused(&accepted, "due").await;
        api.advance(-3_600);

        // One of two was delivered, was made due by hand, or has had its first attempt: all stay as they are.
        for change in [
            delivery::ActiveModel {
                status: Set(Status::Delivered),
                next_attempt_at: Set(None),
                ..Default::default()
            },
            delivery::ActiveModel {
                next_attempt_at: Set(None),
                ..Default::default()
            },
            delivery::ActiveModel {
                attempt_count: Set(1),
                ..Default::default()
            },
            delivery::ActiveModel {
                status: Set(Status::Dead),
                reason: Set(Some(Reason::Expired)),
                ..Default::default()
            },
        ] {
            let accepted = waiting(&tenant, path, field, body.clone()).await;
            let why = format!("{change:?}");
            let changed = delivery::ActiveModel {
                id: Set(ids(&accepted["deliveries"])[1].parse().unwrap()),
                ..change
            };
            changed.update(&api.db).await.unwrap();
            refused(&accepted, &why).await;
        }
    }
    assert_eq!(actions(&api).await, []);
    api.stop().await;
}

#[tokio::test]
async fn what_waits_for_its_time_can_be_given_another() {
    let api = api().await;
    let (tenant, other) = (tenant_with_endpoints(&api).await, api.tenant().await);
    for (path, field, body) in kinds() {
        let accepted = waiting(&tenant, path, field, body).await;
        let one = format!("{path}/{}", id(&accepted));
        let later = json!({field: "2026-02-01T00:00:00.000Z"});
        let foreign = other.api.patch(&one, later.clone()).await;
        assert_eq!(foreign.faults(404, "not_found"), [""; 0], "{foreign}");
        let moved = tenant.api.patch(&one, later.clone()).await.expect(200);
        assert_eq!(moved[field], later[field]);
        for row in rows(&api, &accepted).await {
            assert_eq!(row.next_attempt_at.unwrap().timestamp(), 1_769_904_000);
            assert_eq!(row.dispatch_at, row.next_attempt_at);
        }
        let shown = tenant.api.get(&one).await.expect(200);
        assert_eq!(shown[field], later[field]);
        assert_eq!(shown["deliveries"][0]["next_attempt_at"], later[field]);

        for wrong in [json!("2027-06-01T00:00:00Z"), json!(null), json!("soon")] {
            let refused = tenant.api.patch(&one, json!({field: wrong})).await;
            assert_eq!(
                refused.faults(422, "validation_failed"),
                [""; 0],
                "{refused}"
            );
            assert_eq!(refused.body["errors"][0]["path"], field, "{refused}");
        }
        // A time in the past is now.
        let now = json!({field: "2026-01-01T00:00:00Z"});
        let now = tenant.api.patch(&one, now).await.expect(200);
        assert_eq!(now["deliveries"][0].get("next_attempt_at"), None);
        for row in rows(&api, &accepted).await {
            assert_eq!(row.status, Status::Pending);
            assert_eq!(row.dispatch_at, Some(api.clock.now()));
        }
    }
    assert_eq!(actions(&api).await.len(), 4);
    api.stop().await;
}

#[tokio::test]
async fn what_goes_to_nobody_can_be_cancelled_until_its_time() {
    let api = api().await;
    let tenant = api.tenant().await;
    let later = json!({"event_type": "a", "payload": 1, "deliver_at": "2026-01-31T10:30:00Z"});
    let accepted = tenant.api.post("/v1/messages", later).await.expect(201);
    let cancel = format!("/v1/messages/{}/cancel", id(&accepted));
    tenant.api.post_bytes(&cancel, "").await.expect(200);
    api.advance(3_600);
    let late = tenant.api.post_bytes(&cancel, "").await;
    assert_eq!(late.faults(409, "too_late"), [""; 0], "{late}");
    api.stop().await;
}

#[tokio::test]
async fn a_message_expires_when_its_sender_says_so() {
    let api = api().await;
    let tenant = tenant_with_endpoints(&api).await;
    let message = |fields: Value| {
        let mut message = json!({"event_type": "a", "payload": 1});
        let own = message.as_object_mut().unwrap();
        own.extend(fields.as_object().unwrap().clone());
        message
    };
    let expiring = message(json!({"expires_at": "2026-01-31T10:00:00Z"}));
    let accepted = tenant
        .api
        .post("/v1/messages", expiring.clone())
        .await
        .expect(201);
    assert_eq!(accepted["expires_at"], "2026-01-31T10:00:00.000Z");
    let shown = tenant
        .api
        .get(&format!("/v1/messages/{}", id(&accepted)))
        .await
        .expect(200);
    assert_eq!(shown["expires_at"], accepted["expires_at"]);
    let batch = json!({"messages": [expiring]});
    let batch = tenant
        .api
        .post("/v1/messages/batch", batch)
        .await
        .expect(200);
    assert_eq!(batch["results"][0]["status"], 201);
    let all = delivery::Entity::find().all(&api.db).await.unwrap();
    assert_eq!(all.len(), 4);
    for row in all {
        let seconds = (row.expires_at.unwrap() - row.created_at).num_seconds();
        assert_eq!(seconds, 1_800);
    }
    assert_eq!(tenant.publish("a").await.get("expires_at"), None);

    for wrong in [
        json!({"expires_at": "2026-01-31T09:30:00Z"}),
        json!({"expires_at": "2026-01-31T09:00:00Z"}),
        json!({"expires_at": "2026-01-31T10:00:00Z", "deliver_at": "2026-01-31T10:00:00Z"}),
        json!({"expires_at": "tomorrow"}),
    ] {
        let refused = tenant.api.post("/v1/messages", message(wrong)).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], "expires_at", "{refused}");
    }
    let both = json!({"expires_at": "2026-01-31T10:00:00Z", "deliver_at": "2026-01-31T09:45:00Z"});
    let both = tenant
        .api
        .post("/v1/messages", message(both))
        .await
        .expect(201);
    let path = format!("/v1/messages/{}", id(&both));
    let refused = tenant
        .api
        .patch(&path, json!({"deliver_at": "2026-01-31T10:00:00Z"}))
        .await;
    assert_eq!(
        refused.faults(422, "validation_failed"),
        [""; 0],
        "{refused}"
    );
    let in_time = json!({"deliver_at": "2026-01-31T09:59:59Z"});
    tenant.api.patch(&path, in_time).await.expect(200);
    api.stop().await;
}
