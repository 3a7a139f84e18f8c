//! Probes.

use relaypost_shared::queue::Queue;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::{Api, api};

#[tokio::test]
async fn a_live_process_says_so_without_a_key() {
    let api = api().await;
    for path in ["/health", "/healthz", "/health/live"] {
        let live = api.anonymous().get(path).await.expect(200);
        assert_eq!(
            live,
            json!({"status": "ok", "timestamp": "2026-01-31T09:30:00.000Z"})
        );
    }
    for path in ["/health/ready", "/readyz", "/ready"] {
        let ready = api.anonymous().get(path).await.expect(200);
        let checks = json!({"database": "ok", "redis": "ok", "migrations": "ok"});
        assert_eq!(ready, json!({"status": "ready", "checks": checks}));
    }
    api.stop().await;
}

fn no_redis() -> Queue {
    // Nothing listens on the discard port.
    Queue::open(Some("redis://127.0.0.1:9/")).unwrap()
}

#[tokio::test]
async fn without_redis_the_api_is_ready_unless_told_otherwise() {
    let api = Api::with(&[], no_redis()).await;
    let ready = api.anonymous().get("/ready").await.expect(200);
    assert_eq!(
        (&ready["status"], &ready["checks"]["redis"]),
        (&json!("ready"), &json!("degraded"))
    );
    let tenant = api.tenant().await;
    tenant.endpoint(&[]).await;
    tenant.publish("a.b").await;
    api.stop().await;

    let strict = Api::with(&[("READINESS_REQUIRES_REDIS", "true")], no_redis()).await;
    let ready = strict.anonymous().get("/ready").await.expect(503);
    assert_eq!(
        (&ready["status"], &ready["checks"]["redis"]),
        (&json!("not_ready"), &json!("failed"))
    );
    strict.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_not_up_to_date_is_not_ready() {
    let api = api().await;
    api.db
        .execute_unprepared("DELETE FROM seaql_migrations")
        .await
        .unwrap();
    let ready = api.anonymous().get("/ready").await.expect(503);
    let checks = json!({"database": "ok", "redis": "ok", "migrations": "failed"});
    assert_eq!(ready, json!({"status": "not_ready", "checks": checks}));
    api.stop().await;
}
