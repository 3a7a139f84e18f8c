//! Endpoints.

use relaypost_shared::{entities::endpoint_secret, secrets::Keyring};
use sea_orm::{EntityTrait as _, QueryOrder as _};
use serde_json::json;

use crate::{api, id};

#[tokio::test]
async fn an_endpoint_is_shown_as_it_was_created() {
    let api = api().await;
    let tenant = api.tenant().await;
    let new = json!({
        "url": "https://example.com/hooks?x=1", "description": "Orders", "event_types": ["order.paid"],
        "channels": ["eu"], "headers": {"X-B": "2", "X-A": "1"}, "timeout_ms": 5000, "retry_schedule": [0, 5],
    });
    let mut created = tenant
        .api
        .post("/v1/endpoints", new.clone())
        .await
        .expect(201);
    let secret = created.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"));
    assert_eq!(created["status"], "active");
    for (field, value) in new.as_object().unwrap() {
        assert_eq!(created[field], *value, "{field}");
    }
    let path = format!("/v1/endpoints/{}", id(&created));
    let shown = tenant.api.get(&path).await;
    assert!(String::from_utf8_lossy(&shown.bytes).contains(r#""headers":{"X-A":"1","X-B":"2"}"#));
    assert_eq!(shown.body, created);
    let read = tenant.api.get(&format!("{path}/secret")).await.expect(200);
    assert_eq!(read, json!({"secret": secret}));
    api.stop().await;
}

#[tokio::test]
async fn a_change_leaves_out_what_it_does_not_name_and_clears_what_is_null() {
    let api = api().await;
    let tenant = api.tenant().await;
    let new = json!({
        "url": "https://example.com/", "description": "Orders", "event_types": ["a"], "headers": {"X-A": "1"},
        "timeout_ms": 5000, "retry_schedule": [5],
    });
    let created = tenant.api.post("/v1/endpoints", new).await.expect(201);
    let path = format!("/v1/endpoints/{}", id(&created));
    api.advance(1);
    let changed = tenant
        .api
        .patch(&path, json!({"url": "https://example.com/2"}))
        .await
        .expect(200);
    assert_eq!(changed["url"], "https://example.com/2");
    assert_eq!(changed["updated_at"], "2026-01-31T09:30:01.000Z");
    for field in [
        "description",
        "event_types",
        "headers",
        "timeout_ms",
        "retry_schedule",
        "created_at",
    ] {
        assert_eq!(changed[field], created[field], "{field}");
    }
    let nulls = json!({
        "description": null, "headers": null, "timeout_ms": null, "retry_schedule": null,
    });
    let cleared = tenant.api.patch(&path, nulls).await.expect(200);
    for field in ["description", "timeout_ms", "retry_schedule"] {
        assert_eq!(cleared.get(field), None, "{field}");
    }
    assert_eq!(cleared["headers"], json!({}));
    // Null event types could be taken for "every event".
    for field in ["url", "event_types", "channels"] {
        let refused = tenant.api.patch(&path, json!({field: null})).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], field, "{refused}");
    }
    tenant
        .api
        .patch(&path, json!({"status": "active"}))
        .await
        .expect(422);
    // A change of nothing is none.
    api.advance(1);
    assert_eq!(
        tenant.api.patch(&path, json!({})).await.expect(200),
        cleared
    );
    api.stop().await;
}

#[tokio::test]
async fn the_values_of_an_endpoints_headers_are_for_those_who_manage_it() {
    let api = api().await;
    let tenant = api.tenant().await;
    let shown = json!({"Authorization": "Bearer swordfish", "X-Source": "shop"});
    let new = json!({"url": "https://example.com/", "headers": shown});
    let path = format!(
        "/v1/endpoints/{}",
        id(&tenant.api.post("/v1/endpoints", new).await.expect(201))
    );
    let hidden = json!({"Authorization": "[hidden]", "X-Source": "[hidden]"});
    for (scopes, wanted) in [
        (&["read"][..], &hidden),
        (&["read", "send"], &hidden),
        (&["read", "manage"], &shown),
        (&["admin"], &shown),
    ] {
        let key = api.key(&tenant.id, scopes).await;
        let client = api.anonymous().key(key["key"].as_str().unwrap());
        let one = client.get(&path).await.expect(200);
        let list = client.get("/v1/endpoints").await.expect(200);
        for endpoint in [&one, &list["data"][0]] {
            assert_eq!(endpoint["headers"], *wanted, "{scopes:?}");
        }
    }
    let platform = api.root().header("x-tenant-id", &tenant.id);
    let one = platform.get(&path).await.expect(200);
    assert_eq!(one["headers"], shown);
    api.stop().await;
}

#[tokio::test]
async fn a_deleted_endpoint_is_gone() {
    let api = api().await;
    let tenant = api.tenant().await;
    let path = format!("/v1/endpoints/{}", tenant.endpoint(&[]).await);
    tenant.api.delete(&path).await.expect(204);
    tenant.api.delete(&path).await.expect(404);
    tenant.api.get(&path).await.expect(404);
    tenant.api.patch(&path, json!({})).await.expect(404);
    tenant.api.get(&format!("{path}/secret")).await.expect(404);
    let listed = tenant.api.get("/v1/endpoints").await.expect(200);
    assert_eq!(listed["data"], json!([]));
    api.stop().await;
}

#[tokio::test]
async fn a_rotated_secret_leaves_the_old_one_valid_for_the_grace_period() {
    let api = api().await;
    let tenant = api.tenant().await;
    let path = format!("/v1/endpoints/{}/secret", tenant.endpoint(&[]).await);
    let old = tenant.api.get(&path).await.expect(200)["secret"].clone();
    let rotate = format!("{path}/rotate");
    let rotated = tenant
        .api
        .post(&rotate, json!({"grace_period_s": 60}))
        .await
        .expect(200);
    assert_eq!(rotated["previous_expires_at"], "2026-01-31T09:31:00.000Z");
    let current = tenant.api.get(&path).await.expect(200)["secret"].clone();
    assert!(current == rotated["secret"] && current != old);
    let rows = endpoint_secret::Entity::find()
        .order_by_asc(endpoint_secret::Column::Id)
        .all(&api.db)
        .await
        .unwrap();
    let ends: Vec<_> = rows
        .iter()
        .map(|row| {
            let secret = row.open(&Keyring::of_development()).unwrap();
            (secret == old, row.expires_at.is_some())
        })
        .collect();
    assert_eq!(ends, [(true, true), (false, false)]);
    let day = tenant.api.post(&rotate, json!({})).await.expect(200);
    assert_eq!(day["previous_expires_at"], "2026-02-01T09:30:00.000Z");
    for seconds in [json!(-1), json!(604_801), json!("soon")] {
        tenant
            .api
            .post(&rotate, json!({"grace_period_s": seconds}))
            .await
            .expect(422);
    }
    api.stop().await;
}

#[tokio::test]
async fn rotations_at_once_leave_one_secret_without_an_end() {
    let api = api().await;
    let tenant = api.tenant().await;
    let rotate = format!("/v1/endpoints/{}/secret/rotate", tenant.endpoint(&[]).await);
    let rotations = (0..10).map(|_| tenant.api.post(&rotate, json!({})));
    for answer in futures::future::join_all(rotations).await {
        answer.expect(200);
    }
    let rows = endpoint_secret::Entity::find().all(&api.db).await.unwrap();
    assert_eq!(rows.len(), 11);
    assert_eq!(
        rows.iter().filter(|row| row.expires_at.is_none()).count(),
        1
    );
    api.stop().await;
}

#[tokio::test]
async fn what_an_endpoint_cannot_be_is_named() {
    let api = api().await;
    let tenant = api.tenant().await;
    let with = |field: &str, value: serde_json::Value| {
        let mut new = json!({"url": "https://example.com/"});
        new[field] = value;
        new
    };
    let many: Vec<u32> = vec![1; 51];
    let headers: serde_json::Map<_, _> = (0..21).map(|n| (format!("X-{n}"), json!("v"))).collect();
    for (path, new) in [
        ("url", json!({"url": "https://10.0.0.1/"})),
        ("url", json!({"url": "https://169.254.169.254/"})),
        ("url", json!({"url": "nonsense"})),
        ("description", with("description", json!("a\u{0}"))),
        ("event_types[1]", with("event_types", json!(["a", "b c"]))),
        ("channels[0]", with("channels", json!([""]))),
        ("timeout_ms", with("timeout_ms", json!(99))),
        ("timeout_ms", with("timeout_ms", json!(300_001))),
        ("retry_schedule", with("retry_schedule", json!([604_801]))),
        ("retry_schedule", with("retry_schedule", json!(many))),
        ("retry_schedule[0]", with("retry_schedule", json!([1.5]))),
        ("headers", with("headers", json!(headers))),
        ("headers.Host", with("headers", json!({"Host": "a"}))),
        (
            "headers.webhook-id",
            with("headers", json!({"webhook-id": "a"})),
        ),
        ("event_types", with("event_types", json!(null))),
        ("channels", with("channels", json!(null))),
        ("headers.X A", with("headers", json!({"X A": "a"}))),
        (
            "headers.X-A",
            with("headers", json!({"X-A": "a\r\nX-B: b"})),
        ),
        ("rate_limit", with("rate_limit", json!(5))),
    ] {
        let refused = tenant.api.post("/v1/endpoints", new).await;
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], path, "{refused}");
    }
    for name in [
        "Keep-Alive",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Date",
        "Expect",
    ] {
        let new = with("headers", json!({name: "a"}));
        let refused = tenant.api.post("/v1/endpoints", new).await;
        let path = format!("headers.{name}");
        assert_eq!(refused.status, 422, "{refused}");
        assert_eq!(refused.body["errors"][0]["path"], path, "{refused}");
    }
    let twice = r#"{"url": "https://example.com/", "headers": {"X-A": "1", "x-a": "2"}}"#;
    let refused = tenant.api.post_bytes("/v1/endpoints", twice).await;
    assert_eq!(
        refused.body["errors"][0]["path"], "headers.x-a",
        "{refused}"
    );
    api.stop().await;
}
