//! Deliveries and their attempts.

use chrono::TimeDelta;
use relaypost_shared::{
    db::begin_write,
    delivery::{AttemptOutcome, ErrorClass, ParkedReason, Status},
    ids::{AttemptId, DeliveryId},
    store::fixtures::{attempt, delivery},
    store::{circuits, park::park, release},
};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, Set};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{api, id, support::ids};

#[tokio::test]
async fn filters_narrow_the_list_down_together() {
    let api = api().await;
    let tenant = api.tenant().await;
    let (orders, invoices) = (
        tenant.endpoint(&["order"]).await,
        tenant.endpoint(&["invoice"]).await,
    );
    let order = id(&tenant.publish("order").await["deliveries"][0]);
    let order = api.date(&order).await;
    api.advance(60);
    let invoice = id(&tenant.publish("invoice").await["deliveries"][0]);
    let invoice = api.date(&invoice).await;
    api.advance(60);
    let email = json!({"to": ["a@example.com"], "subject": "Hello", "text": "Hello"});
    let email = id(&tenant.api.post("/v1/emails", email).await.expect(201)["deliveries"][0]);
    let email = api.date(&email).await;
    delivery::ActiveModel {
        id: Set(invoice.parse().unwrap()),
        status: Set(Status::Dead),
        error_class: Set(Some(ErrorClass::Http5xx)),
        dead_at: Set(Some(api.clock.now())),
        ..Default::default()
    }
    .update(&api.db)
    .await
    .unwrap();

    for (filter, wanted) in [
        (String::new(), vec![&email, &invoice, &order]),
        ("kind=webhook".to_owned(), vec![&invoice, &order]),
        ("kind=email".to_owned(), vec![&email]),
        ("status=dead".to_owned(), vec![&invoice]),
        (format!("endpoint={orders}"), vec![&order]),
        (format!("endpoint={invoices}&status=pending"), vec![]),
        (format!("endpoint={orders}&endpoint_id={invoices}"), vec![]),
        (format!("endpoint_id={orders}"), vec![&order]),
        (format!("endpoint_id={invoices}&status=pending"), vec![]),
        ("event_type=invoice".to_owned(), vec![&invoice]),
        ("error_class=http_5xx".to_owned(), vec![&invoice]),
        (
            "since=2026-01-31T09:31:00Z".to_owned(),
            vec![&email, &invoice],
        ),
        ("until=2026-01-31T09:31:00Z".to_owned(), vec![&order]),
        (
            "since=2026-01-31T09:31:00Z&until=2026-01-31T09:31:01Z".to_owned(),
            vec![&invoice],
        ),
        ("kind=webhook&limit=1".to_owned(), vec![&invoice]),
    ] {
        let listed = tenant
            .api
            .get(&format!("/v1/deliveries?{filter}"))
            .await
            .expect(200);
        assert_eq!(
            ids(&listed["data"]).iter().collect::<Vec<_>>(),
            wanted,
            "{filter}"
        );
    }
    let one = tenant
        .api
        .get(&format!("/v1/deliveries/{invoice}"))
        .await
        .expect(200);
    assert_eq!(
        (&one["status"], &one["error_class"]),
        (&json!("dead"), &json!("http_5xx"))
    );
    api.stop().await;
}

#[tokio::test]
async fn a_parked_delivery_says_why_since_when_and_until_when() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&["order"]).await;
    let published = [
        tenant.publish("order").await,
        tenant.publish("order").await,
        tenant.publish("order").await,
        tenant.publish("order").await,
    ];
    let [behind, paused, by_hand, released] =
        published.each_ref().map(|one| id(&one["deliveries"][0]));
    let now = api.clock.now();
    let open = [Uuid::from_u128(1), Uuid::from_u128(2)];
    circuits::create_missing(&api.db, open.map(|circuit| (circuit, None)), now)
        .await
        .unwrap();
    let tx = begin_write(&api.db).await.unwrap();
    let mut rows = circuits::lock(&tx, open).await.unwrap();
    let mut row = rows.remove(&open[0]).unwrap();
    row.retry_at = Some(now + TimeDelta::seconds(30));
    circuits::save(&tx, row, now).await.unwrap();
    for (circuit, reason, delivery) in [
        (open[0], ParkedReason::CircuitOpen, &behind),
        (open[0], ParkedReason::Paused, &paused),
        (open[1], ParkedReason::CircuitOpen, &by_hand),
        (open[1], ParkedReason::Ordered, &released),
    ] {
        let delivery = [delivery.parse().unwrap()];
        park(&tx, circuit, reason, &delivery, now).await.unwrap();
    }
    release::one(&tx, released.parse().unwrap(), now)
        .await
        .unwrap();
    tx.commit().await.unwrap();

    let since = "2026-01-31T09:30:00.000Z";
    let waits =
        json!({"reason": "circuit_open", "since": since, "until": "2026-01-31T09:30:30.000Z"});
    for (delivery, parked) in [
        (&behind, waits.clone()),
        (&paused, json!({"reason": "paused", "since": since})),
        (&by_hand, json!({"reason": "circuit_open", "since": since})),
        (&released, Value::Null),
    ] {
        let path = format!("/v1/deliveries/{delivery}");
        let shown = tenant.api.get(&path).await.expect(200);
        assert_eq!(
            (&shown["status"], &shown["parked"]),
            (&json!("pending"), &parked)
        );
    }
    for (filter, wanted) in [
        ("parked=circuit_open", vec![&by_hand, &behind]),
        ("parked=circuit_open&limit=1", vec![&by_hand]),
        ("parked=paused", vec![&paused]),
        ("parked=ordered", vec![]),
        ("parked=paused&status=dead", vec![]),
    ] {
        let path = format!("/v1/deliveries?{filter}");
        let listed = tenant.api.get(&path).await.expect(200);
        let found = ids(&listed["data"]);
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{filter}");
    }
    let message = format!("/v1/messages/{}", id(&published[0]));
    for shown in [
        tenant.api.get(&message).await.expect(200)["deliveries"][0].clone(),
        tenant.api.get("/v1/messages").await.expect(200)["data"][3]["deliveries"][0].clone(),
        tenant.api.get("/v1/deliveries").await.expect(200)["data"][3].clone(),
    ] {
        assert_eq!(shown["parked"], waits);
    }
    let refused = tenant.api.get("/v1/deliveries?parked=yes").await;
    assert_eq!(refused.status, 400, "{refused:?}");
    api.stop().await;
}

#[tokio::test]
async fn attempts_are_listed_newest_first_with_every_field() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let delivery = id(&tenant.publish("a.b").await["deliveries"][0]);
    let delivery_id: DeliveryId = delivery.parse().unwrap();
    let row = delivery::Entity::find_by_id(delivery_id)
        .one(&api.db)
        .await
        .unwrap()
        .unwrap();
    for number in 1..=3 {
        attempt::Entity::insert(
            attempt::Model {
                delivery_id,
                number,
                id: AttemptId::generate(api.clock.now()),
                tenant_id: row.tenant_id,
                started_at: api.clock.now(),
                duration_ms: 12,
                outcome: AttemptOutcome::Failed,
                error_class: Some(ErrorClass::Http5xx),
                http_status: Some(503),
                response_snippet: Some("out of order".to_owned()),
                request_id: "order-42".to_owned(),
            }
            .into_active_model(),
        )
        .exec_without_returning(&api.db)
        .await
        .unwrap();
    }
    let path = format!("/v1/deliveries/{delivery}/attempts");
    let first = tenant.api.get(&format!("{path}?limit=2")).await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = tenant
        .api
        .get(&format!("{path}?limit=2&cursor={cursor}"))
        .await
        .expect(200);
    let numbers = [&first["data"][0], &first["data"][1], &second["data"][0]]
        .map(|attempt| attempt["number"].clone());
    assert_eq!(numbers, [3, 2, 1]);
    let mut shown = second["data"][0].clone();
    assert!(
        shown
            .as_object_mut()
            .unwrap()
            .remove("id")
            .unwrap()
            .as_str()
            .unwrap()
            .starts_with("att_")
    );
    let wanted = json!({
        "number": 1, "started_at": "2026-01-31T09:30:00.000Z", "duration_ms": 12, "outcome": "failed",
        "error_class": "http_5xx", "http_status": 503, "response_snippet": "out of order", "request_id": "order-42",
    });
    assert_eq!(shown, wanted);
    api.stop().await;
}
