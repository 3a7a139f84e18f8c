//! Clients that take their time, or connections, shut nobody out.

use std::{path::Path, time::Duration};

use futures::future::join_all;
use relaypost_testkit::{Api, Proc, ROOT_API_KEY, World, eventually};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    SOON,
    http_limits::{connect, problem, until_closed},
    world,
};

/// How often a slow client sends a byte.
const TRICKLE: Duration = Duration::from_millis(200);
/// Longer than any test.
const FOR_EVER: &str = "600000";

/// Sends one byte of an endless header now and then until the API closes the connection.
async fn trickle(mut connection: TcpStream) {
    let begun = connection
        .write_all(b"GET /health HTTP/1.1\r\nX-Slow: ")
        .await;
    let mut byte = [0];
    while begun.is_ok() {
        match timeout(TRICKLE, connection.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => panic!("half a request was answered"),
            Err(_) if connection.write_all(b"x").await.is_err() => return,
            Err(_) => {}
        }
    }
}

async fn silence(mut connection: TcpStream) {
    let mut byte = [0];
    let end = connection.read(&mut byte).await;
    assert!(!matches!(end, Ok(1..)), "nothing was answered");
}

/// The whole service works, through new connections.
async fn assert_serves(world: &World) {
    let tenant = world.tenant("acme").await;
    let message = json!({"event_type": "a.b", "payload": 1});
    tenant.api.post("/v1/messages", message).await.expect(201);
    let fresh = Api::new(world.client.base(), ROOT_API_KEY);
    fresh.get("/health").await.expect(200);
    fresh.get("/health/ready").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_slow_clients_leave_the_service_answering_and_are_cut_off() {
    let world = world(&[("HEADER_TIMEOUT_MS", "5000")]).await;
    let mut slow = JoinSet::new();
    for n in 0..2_000 {
        let connection = connect(&world).await;
        match n % 2 {
            0 => slow.spawn(trickle(connection)),
            _ => slow.spawn(silence(connection)),
        };
    }
    assert_serves(&world).await;
    let all = async { while slow.join_next().await.transpose().unwrap().is_some() {} };
    timeout(SOON * 3, all)
        .await
        .expect("every slow connection is closed");
    assert_serves(&world).await;
    world.assert_all_running();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_full_house_a_newcomer_takes_the_place_of_who_has_kept_it_waiting_for_longest() {
    const SEATS: usize = 20;
    let seats = SEATS.to_string();
    let world = world(&[
        ("MAX_CONNECTIONS", seats.as_str()),
        ("HEADER_TIMEOUT_MS", FOR_EVER),
        ("KEEP_ALIVE_SECONDS", "3600"),
    ])
    .await;
    let mut old = Vec::new();
    for _ in 0..SEATS {
        old.push(connect(&world).await);
    }
    let mut young = Vec::new();
    for _ in 0..SEATS {
        young.push(connect(&world).await);
    }
    let closed = join_all(old.into_iter().map(silence));
    timeout(SOON, closed).await.expect("the oldest are closed");
    assert_serves(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_full_of_unfinished_bodies_answers_all_the_same() {
    const SEATS: usize = 10;
    let seats = SEATS.to_string();
    let world = world(&[
        ("MAX_CONNECTIONS", seats.as_str()),
        ("BODY_TIMEOUT_MS", FOR_EVER),
        ("REQUEST_TIMEOUT_MS", FOR_EVER),
    ])
    .await;
    let head = head_of_a_body("Expect: 100-continue\r\n");
    let mut owing = Vec::new();
    for _ in 0..SEATS {
        let mut connection = connect(&world).await;
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut told = [0; 12];
        timeout(SOON, connection.read_exact(&mut told))
            .await
            .unwrap()
            .unwrap();
        // Now the API waits for the body.
        assert_eq!(&told, b"HTTP/1.1 100");
        owing.push(connection);
    }
    assert_serves(&world).await;
    world.stop().await;
}

/// The head of a request whose body never comes.
fn head_of_a_body(headers: &str) -> String {
    format!(
        "POST /v1/tenants HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {ROOT_API_KEY}\r\nContent-Type: \
         application/json\r\nContent-Length: 100\r\n{headers}\r\n"
    )
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_body_is_told_so_and_cut_off() {
    for settings in [
        [("BODY_TIMEOUT_MS", "300"), ("REQUEST_TIMEOUT_MS", FOR_EVER)],
        [("BODY_TIMEOUT_MS", FOR_EVER), ("REQUEST_TIMEOUT_MS", "300")],
    ] {
        let world = world(&settings).await;
        let mut connection = connect(&world).await;
        let half = head_of_a_body("") + "{\"name\": ";
        connection.write_all(half.as_bytes()).await.unwrap();
        let answer = until_closed(&mut connection).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(problem(&answer)["code"], "request_timeout");
        assert_eq!(problem(&answer)["retryable"], true);
        world.stop().await;
    }
}

#[tokio::test]
async fn a_connection_without_another_request_is_closed_and_half_a_second_one_too() {
    let world = world(&[("KEEP_ALIVE_SECONDS", "1"), ("HEADER_TIMEOUT_MS", "1000")]).await;
    for more in ["", "GET /health HTTP/1.1\r\nHo"] {
        let mut connection = connect(&world).await;
        let sent = format!("GET /health HTTP/1.1\r\nHost: api\r\n\r\n{more}");
        connection.write_all(sent.as_bytes()).await.unwrap();
        let answer = until_closed(&mut connection).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_the_process_may_open_files_do_not_end_or_block_it() {
    let folder = TempDir::new().unwrap();
    let env = [
        ("BIND_ADDR", "127.0.0.1:0"),
        ("ROOT_API_KEY", ROOT_API_KEY),
        ("HEADER_TIMEOUT_MS", FOR_EVER),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let limited = "ulimit -S -n 64 && ulimit -H -n 200 && exec \"$0\" serve";
    let binary = env!("CARGO_BIN_EXE_relaypost");
    let process = Proc::start(
        folder.path(),
        Path::new("sh"),
        &["-c", limited, binary],
        &env,
    )
    .await;
    let address = process.base_url().replace("http://", "");
    let mut open = Vec::new();
    for _ in 0..400 {
        open.push(TcpStream::connect(&address).await.unwrap());
    }
    let api = Api::new(&process.base_url(), ROOT_API_KEY);
    api.get("/health").await.expect(200);
    api.get("/health/ready").await.expect(200);
    // Raised from 64 to 200, of which a quarter is left to everything else.
    eventually(SOON, || async {
        let log = process.stderr();
        let told = log.contains("MAX_CONNECTIONS is more than") && log.contains("connections=150");
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(process.is_running(), "{}", process.describe());
}
