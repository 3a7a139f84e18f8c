//! Deliveries and their attempts.

use relaypost_shared::{
    delivery::{AttemptOutcome, ErrorClass, Status},
    entities::{attempt, delivery},
    ids::{AttemptId, DeliveryId},
};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, Set};
use serde_json::json;

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
