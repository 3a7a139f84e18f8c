use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use relaypost_testkit::{Api, Receiver, Reply};
use serde_json::json;
use tokio::time::timeout;

use crate::SOON;

#[tokio::test]
async fn records_the_exact_request() {
    let receiver = Receiver::start().await;
    let api = Api::new(&receiver.url(""), "key")
        .with_header("X-Twice", "1")
        .with_header("x-twice", "2");
    let body = b"{ \"b\" : 1e400,\r\n\r\n \"a\":\"\\u00e9\" }";
    let answer = api
        .post_raw("/hook?x=1", "application/json", body.to_vec())
        .await;
    assert_eq!(answer.status, 200);
    receiver.wait_for(1, SOON).await;
    let hit = &receiver.hits()[0];
    assert_eq!(
        (hit.method.as_str(), hit.path.as_str()),
        ("POST", "/hook?x=1")
    );
    assert_eq!(hit.body, body);
    assert_eq!(hit.header("Authorization"), Some("Bearer key"));
    let twice: Vec<_> = hit
        .headers
        .iter()
        .filter(|(name, _)| name == "x-twice")
        .collect();
    assert_eq!(twice.len(), 2, "{:?}", hit.headers);
}

#[tokio::test]
async fn plays_its_scripts() {
    let receiver = Receiver::start().await;
    let api = Api::new(&receiver.url(""), "key");
    receiver.respond(Reply::statuses_then(
        &[500, 503],
        Reply::Redirect("http://elsewhere/".into()),
    ));
    assert_eq!(api.get("/").await.status, 500);
    assert_eq!(api.get("/").await.status, 503);
    let redirected = api.get("/").await;
    assert_eq!(
        (redirected.status, redirected.header("location")),
        (302, Some("http://elsewhere/"))
    );
    receiver.respond(Reply::Headers {
        status: 429,
        headers: vec![("retry-after".into(), "7".into())],
    });
    assert_eq!(api.get("/").await.header("retry-after"), Some("7"));
    receiver.respond(Reply::func(|hit| {
        (418, Vec::new(), json!({"saw": hit.path}).to_string().into())
    }));
    assert_eq!(
        api.get("/teapot").await.expect(418),
        json!({"saw": "/teapot"})
    );
    receiver.respond(Reply::Body {
        status: 200,
        bytes: vec![0, 255],
    });
    assert_eq!(api.get("/").await.raw, [0, 255]);
}

#[tokio::test]
async fn holds_requests_until_released_and_notices_who_left() {
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Hang);
    let api = Api::new(&receiver.url(""), "key");
    let hanging: Vec<_> = (0..3)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.get("/").await.status })
        })
        .collect();
    receiver.wait_in_flight(3, SOON).await;
    hanging[0].abort();
    receiver.wait_in_flight_at_most(2, SOON).await;
    receiver.release();
    let mut answered = 0;
    for task in hanging {
        answered += usize::from(task.await.is_ok_and(|status| status == 200));
    }
    assert_eq!(
        (answered, receiver.in_flight(), receiver.count()),
        (2, 0, 3)
    );
    assert_eq!(api.get("/after").await.status, 200);
}

#[tokio::test]
async fn answers_later_and_only_who_has_waited() {
    let receiver = Receiver::start().await;
    let wait = Duration::from_millis(50);
    receiver.respond(Reply::After(wait, Box::new(Reply::Status(202))));
    let api = Api::new(&receiver.url(""), "key");
    let start = Instant::now();
    assert_eq!(api.get("/").await.status, 202);
    assert!(start.elapsed() >= wait);

    let asked = Arc::new(AtomicBool::new(false));
    let ask = asked.clone();
    let answer = Reply::func(move |_| {
        ask.store(true, Ordering::Relaxed);
        (200, Vec::new(), Vec::new())
    });
    receiver.respond(Reply::After(SOON, Box::new(answer)));
    let impatient = timeout(wait, api.get("/")).await;
    assert!(impatient.is_err());
    receiver.wait_for(2, SOON).await;
    assert!(!asked.load(Ordering::Relaxed));
}

#[tokio::test]
async fn resets_connections() {
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Reset);
    let api = Api::new(&receiver.url(""), "key");
    let request = tokio::spawn(async move { api.post("/", json!({})).await });
    assert!(
        request.await.is_err(),
        "the client panics without an answer"
    );
    assert!(receiver.count() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_thousands_a_second() {
    const REQUESTS: usize = 4_000;
    let receiver = Receiver::start().await;
    receiver.record(false);
    let api = Api::new(&receiver.url(""), "key");
    let start = Instant::now();
    let clients: Vec<_> = (0..20)
        .map(|client| {
            let api = api.clone();
            tokio::spawn(async move {
                for n in 0..REQUESTS / 20 {
                    let api = api.with_header("webhook-id", &format!("msg_{client}_{n}"));
                    api.post("/", json!({"n": n})).await.expect(200);
                }
            })
        })
        .collect();
    receiver.wait_for_distinct(REQUESTS, SOON).await;
    println!("{REQUESTS} requests in {:?}", start.elapsed());
    for client in clients {
        client.await.unwrap();
    }
    assert!(receiver.hits().is_empty());
    assert!(receiver.by_webhook_id().values().all(|count| *count == 1));
}
