//! Dead letters: listed and looked at.

use relaypost_shared::delivery::{ErrorClass, Reason};
use serde_json::{Value, json};

use crate::{
    api,
    dead::{audited, dead_email, dead_webhook, kill, listed},
    id,
    support::ids,
};

const NOBODY: &str = "dlv_00000000000000000000000000";

#[tokio::test]
async fn filters_narrow_the_lists_down_and_each_kind_has_its_own() {
    let api = api().await;
    let tenant = api.tenant().await;
    let orders = tenant.endpoint(&["order"]).await;
    tenant.endpoint(&["invoice"]).await;
    let order = api.date(&dead_webhook(&api, &tenant, "order").await).await;
    api.advance(60);
    let invoice = id(&tenant.publish("invoice").await["deliveries"][0]);
    kill(
        &api,
        &invoice,
        Reason::EndpointDisabled,
        ErrorClass::Timeout,
    )
    .await;
    let invoice = api.date(&invoice).await;
    api.advance(60);
    let email = api.date(&dead_email(&api, &tenant).await.0).await;
    tenant.publish("order").await;

    for (path, wanted) in [
        ("webhooks/dlq", vec![&invoice, &order]),
        (&format!("webhooks/dlq?endpoint_id={orders}"), vec![&order]),
        ("webhooks/dlq?event_type=invoice", vec![&invoice]),
        ("webhooks/dlq?reason=retries_exhausted", vec![&order]),
        ("webhooks/dlq?error_class=timeout", vec![&invoice]),
        (
            "webhooks/dlq?reason=retries_exhausted&error_class=timeout",
            vec![],
        ),
        ("webhooks/dlq?since=2026-01-31T09:31:00Z", vec![&invoice]),
        ("webhooks/dlq?until=2026-01-31T09:31:00Z", vec![&order]),
        ("emails/dlq", vec![&email]),
        (
            "emails/dlq?reason=rejected&error_class=smtp_5xx",
            vec![&email],
        ),
        ("emails/dlq?reason=uncertain", vec![]),
        ("emails/dlq?since=2026-01-31T09:33:00Z", vec![]),
    ] {
        let seen = listed(&tenant, &format!("/v1/{path}")).await;
        assert_eq!(seen.iter().collect::<Vec<_>>(), wanted, "{path}");
    }
    let first = tenant.api.get("/v1/webhooks/dlq?limit=1").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = listed(
        &tenant,
        &format!("/v1/webhooks/dlq?limit=1&cursor={cursor}"),
    )
    .await;
    assert_eq!((ids(&first["data"]), second), (vec![invoice], vec![order]));
    api.stop().await;
}

#[tokio::test]
async fn a_dead_webhook_is_shown_with_its_payload_byte_for_byte_and_every_attempt() {
    let api = api().await;
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    let payload =
        "{ \"z\" : 1,\r\n\t\"a\":\"\\u00e9 \\/ é\" ,\"big\": 123456789012345678901234567890.10 }";
    let message = format!("{{\"event_type\":\"a.b\",\"payload\":{payload}}}");
    let published = tenant
        .api
        .post_bytes("/v1/messages", message)
        .await
        .expect(201);
    let delivery = id(&published["deliveries"][0]);
    for _ in 0..2 {
        kill(
            &api,
            &delivery,
            Reason::RetriesExhausted,
            ErrorClass::Http5xx,
        )
        .await;
    }
    let shown = tenant
        .api
        .get(&format!("/v1/webhooks/dlq/{delivery}"))
        .await;
    let text = String::from_utf8(shown.bytes.clone()).unwrap();
    assert!(text.contains(&format!("\"payload\":{payload}")), "{text}");
    let shown = shown.expect(200);
    assert_eq!(shown["message_id"], published["id"]);
    assert_eq!(
        [&shown["status"], &shown["reason"], &shown["attempt_count"]],
        [&json!("dead"), &json!("retries_exhausted"), &json!(2)]
    );
    let attempts = shown["attempts"].as_array().unwrap();
    let numbers: Vec<&Value> = attempts.iter().map(|one| &one["number"]).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(attempts[1]["response_snippet"], "out of order");
    api.stop().await;
}

#[tokio::test]
async fn what_is_no_dead_letter_of_this_kind_and_tenant_is_not_found() {
    let api = api().await;
    let (owner, other) = (api.tenant().await, api.tenant().await);
    owner.endpoint(&[]).await;
    let dead = dead_webhook(&api, &owner, "a.b").await;
    let (email, _) = dead_email(&api, &owner).await;
    let alive = id(&owner.publish("a.b").await["deliveries"][0]);
    for (tenant, queue, delivery) in [
        (&other, "webhooks", &dead),
        (&other, "emails", &email),
        (&owner, "emails", &dead),
        (&owner, "webhooks", &email),
        (&owner, "webhooks", &alive),
        (&owner, "webhooks", &NOBODY.to_owned()),
    ] {
        let path = format!("/v1/{queue}/dlq/{delivery}");
        for answer in [
            tenant.api.get(&path).await,
            tenant.api.post(&format!("{path}/replay"), json!({})).await,
            tenant.api.delete(&path).await,
        ] {
            assert_eq!(answer.faults(404, "not_found"), [""; 0], "{answer}");
        }
    }
    for delivery in [dead.as_str(), NOBODY] {
        let retry = format!("/v1/deliveries/{delivery}/retry");
        other.api.post(&retry, json!({})).await.expect(404);
    }
    assert_eq!(listed(&other, "/v1/webhooks/dlq").await, [""; 0]);
    assert_eq!(audited(&api).await.len(), 0);
    let refused = owner.api.delete("/v1/emails/dlq").await;
    assert_eq!(
        (refused.status, refused.headers["allow"].as_str()),
        (405, "GET")
    );
    api.stop().await;
}
