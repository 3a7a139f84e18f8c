//! When the database fails.

use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::{api, support::Client};

async fn publish(client: &Client, event_type: &str) -> crate::Answer {
    client
        .post(
            "/v1/messages",
            json!({"event_type": event_type, "payload": 1}),
        )
        .await
}

#[tokio::test]
async fn a_database_out_of_reach_is_worth_another_try_and_tells_nothing_about_itself() {
    let api = api().await;
    let tenant = api.tenant().await;
    api.db.clone().close().await;
    for answer in [
        publish(&tenant.api, "a.b").await,
        tenant.api.get("/v1/messages").await,
    ] {
        assert_eq!(answer.faults(503, "unavailable"), [""; 0], "{answer}");
        assert_eq!(answer.body["retryable"], true);
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(
            !answer.to_string().to_lowercase().contains("pool"),
            "{answer}"
        );
    }
    api.anonymous().get("/ready").await.expect(503);
    api.anonymous().get("/health").await.expect(200);
    api.stop().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_written_fails_alone() {
    let api = api().await;
    let tenant = api.tenant().await;
    // One event type that the database refuses, whatever the API thinks of it.
    let refuse = match api.db.get_database_backend() {
        sea_orm::DbBackend::Postgres => {
            "ALTER TABLE messages ADD CONSTRAINT refused CHECK (event_type <> 'poison')"
        }
        _ => {
            "CREATE TRIGGER refused BEFORE INSERT ON messages WHEN NEW.event_type = 'poison' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
    };
    api.db.execute_unprepared(refuse).await.unwrap();
    let requests = (0..40).map(|n| {
        let event_type = if n == 20 {
            "poison".to_owned()
        } else {
            format!("event.{n}")
        };
        let client = &tenant.api;
        async move { (event_type.clone(), publish(client, &event_type).await) }
    });
    for (event_type, answer) in futures::future::join_all(requests).await {
        if event_type == "poison" {
            assert_eq!(answer.faults(500, "internal"), [""; 0], "{answer}");
            assert!(!answer.to_string().contains("refused"), "{answer}");
        } else {
            assert_eq!(answer.status, 201, "{event_type}: {answer}");
        }
    }
    api.stop().await;
}
