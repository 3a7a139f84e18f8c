//! The limits of requests, and what is told about answers, as seen on the wire.

use relaypost_testkit::{Answer, Api, ROOT_API_KEY, World, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{SOON, world};

/// What answers to programs must say, with what.
const PROTECTION: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cache-control", "no-store"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// A connection to the API on which anything can be said.
pub(crate) async fn connect(world: &World) -> TcpStream {
    let base = world.client.base().strip_prefix("http://").unwrap();
    TcpStream::connect(base).await.unwrap()
}

/// Sends these bytes and hands back all that comes until the API closes the connection.
pub(crate) async fn exchange(world: &World, sent: &[u8]) -> String {
    let mut connection = connect(world).await;
    // The answer may come, and the connection be closed, before everything is sent.
    let _ = connection.write_all(sent).await;
    until_closed(&mut connection).await
}

/// All that comes until the API closes the connection.
pub(crate) async fn until_closed(connection: &mut TcpStream) -> String {
    let mut came = Vec::new();
    // A reset closes it too.
    let _ = timeout(SOON, connection.read_to_end(&mut came))
        .await
        .expect("the API closes the connection");
    String::from_utf8(came).unwrap()
}

/// The problem that an answer on the wire carries.
pub(crate) fn problem(answer: &str) -> Value {
    let body = answer.split("\r\n\r\n").last().unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("no problem object: {answer}"))
}

fn head(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n{headers}\r\n")
}

async fn ask(api: &Api, method: Method, path: &str) -> Answer {
    api.send(method, path, None).await
}

fn unprotected(answer: &Answer) -> Vec<String> {
    let wrong = PROTECTION.iter().filter_map(|(name, wanted)| {
        let found = answer.headers.iter().filter(|(found, _)| found == name);
        let found: Vec<_> = found.map(|(_, value)| value.as_str()).collect();
        (found != [*wanted]).then(|| format!("{name}: {found:?}"))
    });
    wrong.collect()
}

#[tokio::test]
async fn every_answer_says_once_that_browsers_may_do_nothing_with_it() {
    let world = world(&[("MAX_BODY_BYTES", "1024")]).await;
    let api = &world.client;
    let long_path = format!("/v1/{}", "x".repeat(9_000));
    let many = api.with_header("x-filler", &"x".repeat(17_000));
    let large = json!({"name": "x".repeat(2_000)});
    let mut answers = vec![
        ask(api, Method::GET, "/v1/tenants").await.also(200),
        ask(api, Method::GET, "/health").await.also(200),
        ask(api, Method::GET, "/health/ready").await.also(200),
        ask(api, Method::GET, "/favicon.ico").await.also(204),
        ask(&api.with_key("rp_wrong"), Method::GET, "/v1/tenants")
            .await
            .also(401),
        ask(api, Method::GET, "/v1/nowhere").await.also(404),
        ask(api, Method::GET, "/nowhere").await.also(404),
        ask(api, Method::PUT, "/v1/tenants").await.also(405),
        ask(api, Method::PUT, "/health").await.also(405),
        ask(api, Method::GET, &long_path).await.also(414),
        ask(&many, Method::GET, "/health").await.also(431),
        api.post("/v1/tenants", large).await.also(413),
        api.post("/v1/tenants", json!({"name": ""})).await.also(422),
        api.post("/v1/tenants", json!({"name": "Acme"}))
            .await
            .also(201),
    ];
    for worker in &world.workers {
        let probes = api.with_base(&worker.base_url());
        answers.push(ask(&probes, Method::GET, "/health").await.also(200));
        answers.push(ask(&probes, Method::GET, "/nowhere").await.also(404));
    }
    for answer in answers {
        assert_eq!(unprotected(&answer), [""; 0], "{answer}");
    }
    world.stop().await;
}

trait Also {
    /// The answer, provided that it has this status.
    fn also(self, status: u16) -> Self;
}

impl Also for Answer {
    #[track_caller]
    fn also(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }
}

#[tokio::test]
async fn a_body_is_too_large_whether_its_length_is_announced_or_not() {
    let world = world(&[("MAX_BODY_BYTES", "1024")]).await;
    let tenant = world.tenant("acme").await;
    let body = format!("{{\"name\": \"{}\"}}", "x".repeat(1_100));
    let chunks: String = body
        .as_bytes()
        .chunks(100)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part)))
        .collect();
    for (key, path) in [
        (ROOT_API_KEY, "/v1/tenants"),
        (tenant.api.key(), "/v1/messages"),
        (tenant.api.key(), "/v1/emails/batch"),
        (tenant.api.key(), "/v1/endpoints"),
        (tenant.api.key(), "/v1/dlq/replay"),
    ] {
        let usual = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
        let length = body.len();
        for sent in [
            head(path, &format!("{usual}Content-Length: {length}\r\n")) + &body,
            head(path, &format!("{usual}Transfer-Encoding: chunked\r\n")) + &chunks + "0\r\n\r\n",
            // Whoever asks first is spared the sending.
            head(
                path,
                &format!("{usual}Content-Length: {length}\r\nExpect: 100-continue\r\n"),
            ),
        ] {
            let answer = exchange(&world, sent.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{path}: {answer}");
            assert_eq!(problem(&answer)["code"], "payload_too_large");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let world = world(&[]).await;
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n{headers}\r\n")
    };
    let answer = exchange(
        &world,
        get(&format!("/health?{}", "x".repeat(8_190)), "").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer}");
    assert_eq!(problem(&answer)["code"], "uri_too_long");
    let header = |size: usize| format!("X-Filler: {}\r\n", "x".repeat(size));
    let answer = exchange(&world, get("/health", &header(17_000)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(problem(&answer)["code"], "headers_too_large");
    // What the HTTP layer does not even read is answered by itself.
    for headers in [header(70_000), "X-Filler: x\r\n".repeat(120)] {
        let answer = exchange(&world, get("/health", &headers).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    world.stop().await;
}

/// What two servers could understand differently is no request, or is the last on its connection: nothing can be hidden
/// behind it ([RFC 9112](https://www.rfc-editor.org/rfc/rfc9112#section-11.2)).
#[tokio::test]
async fn no_second_request_can_be_smuggled_behind_an_ambiguous_one() {
    let world = world(&[]).await;
    let hidden = "GET /health?smuggled HTTP/1.1\r\nHost: api\r\n\r\n";
    let empty = "0\r\n\r\n";
    for (headers, body, status) in [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            empty,
            401,
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            empty,
            401,
        ),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello", 400),
        ("Content-Length: 5, 5\r\n", "hello", 400),
        ("Content-Length: +5\r\n", "hello", 400),
        ("Transfer-Encoding: xchunked\r\n", empty, 400),
        ("Transfer-Encoding: chunked, identity\r\n", empty, 400),
        ("Transfer-Encoding: \u{b}chunked\r\n", empty, 400),
        ("Transfer-Encoding : chunked\r\n", empty, 400),
        (
            "X-Folded: a\r\n Content-Length: 5\r\nContent-Length: 0\r\n",
            "",
            400,
        ),
        (
            "X-Broken: a\rContent-Length: 5\r\nContent-Length: 0\r\n",
            "",
            400,
        ),
    ] {
        let sent =
            format!("POST /v1/messages HTTP/1.1\r\nHost: api\r\n{headers}\r\n{body}{hidden}");
        let answers = exchange(&world, sent.as_bytes()).await;
        assert!(
            answers.starts_with(&format!("HTTP/1.1 {status} ")),
            "{headers:?}: {answers}"
        );
        assert_eq!(
            answers.matches("HTTP/1.1 ").count(),
            1,
            "{headers:?}: {answers}"
        );
    }
    let two_hosts = "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n";
    let answer = exchange(&world, two_hosts.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn the_log_tells_the_time_of_a_request_as_a_number() {
    let world = world(&[("APP_ENV", "production"), ("LOG", "info,access=debug")]).await;
    world.client.get("/health").await.expect(200);
    let answered = eventually(SOON, || async {
        let log = world.apis[0].stderr();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let answered = lines.find(|line| line["message"] == "answered");
        answered.ok_or(log)
    })
    .await;
    assert!(answered["duration_ms"].is_u64(), "{answered}");
    assert!(answered["status"].is_u64(), "{answered}");
    world.stop().await;
}
