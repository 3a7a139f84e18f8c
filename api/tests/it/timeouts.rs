//! Requests that take too long.

use std::time::Duration;

use relaypost_shared::{
    db::{Transaction, begin_write},
    queue::{MemoryQueue, Queue},
    store::fixtures::message,
};
use relaypost_testkit::eventually;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use crate::{
    support::{Api, Client},
    things::{test_under_way, work_off_the_test},
};

/// Keeps everybody else from writing a message until it ends.
async fn only_writer(api: &Api) -> Transaction {
    let writer = begin_write(&api.db).await.unwrap();
    if api.db.get_database_backend() == sea_orm::DbBackend::Postgres {
        let lock = "LOCK TABLE messages IN ACCESS EXCLUSIVE MODE";
        writer.execute_unprepared(lock).await.unwrap();
    }
    writer
}

async fn publish(client: &Client) -> crate::Answer {
    let message = json!({"event_type": "a.b", "payload": 1});
    client.post("/v1/messages", message).await
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut_and_sent_again_makes_one_message() {
    let queue = Queue::Memory(MemoryQueue::default());
    let api = Api::with(&[("REQUEST_TIMEOUT_MS", "500")], queue).await;
    let tenant = api.tenant().await;
    let client = tenant.api.header("idempotency-key", "order-42");
    let writer = only_writer(&api).await;
    let cut = publish(&client).await;
    assert_eq!(cut.faults(503, "took_too_long"), [""; 0], "{cut}");
    assert_eq!(cut.body["retryable"], true);
    assert_eq!(cut.headers["retry-after"], "1");
    assert!(
        cut.body["detail"]
            .as_str()
            .unwrap()
            .contains("Idempotency-Key")
    );
    writer.rollback().await.unwrap();
    // 200 if what was cut was done all the same, 409 while it still is.
    let again = eventually(Duration::from_secs(30), || async {
        match publish(&client).await {
            busy if busy.status == 409 => Err(busy.to_string()),
            answer => Ok(answer),
        }
    })
    .await;
    assert!([200, 201].contains(&again.status), "{again}");
    let third = publish(&client).await;
    assert_eq!((third.status, &third.bytes), (200, &again.bytes));
    assert_eq!(api.count::<message::Entity>().await, 1);
    api.stop().await;
}

#[tokio::test]
async fn an_operation_with_a_deadline_of_its_own_is_not_cut() {
    let queue = Queue::Memory(MemoryQueue::default());
    let api = Api::with(&[("REQUEST_TIMEOUT_MS", "2000")], queue).await;
    let tenant = api.tenant().await;
    let path = format!("/v1/endpoints/{}/test", tenant.endpoint(&[]).await);
    let test = tenant.api.post(&path, json!({}));
    let meanwhile = async {
        test_under_way(&api).await;
        // A request that began after the test is cut, and the test goes on.
        let writer = only_writer(&api).await;
        let cut = publish(&tenant.api).await;
        assert_eq!(cut.faults(503, "took_too_long"), [""; 0], "{cut}");
        writer.rollback().await.unwrap();
        work_off_the_test(&api).await;
    };
    let (tested, ()) = tokio::join!(test, meanwhile);
    assert_eq!(tested.expect(200)["delivered"], false);
    api.stop().await;
}
