//! The load generator: prepared requests on connections that stay open. It takes little of the cores that it shares with
//! what it measures, far less than an ordinary client. That one is [`bare`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use relaypost_testkit::Api;
use reqwest::{Client, Url};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::steady::quantile;

/// A message, as it is published. The bare client posts the same bytes.
pub(crate) const BODY: &str = r#"{"event_type":"bench","payload":{"id":"in_1042","total":1999,"currency":"eur","lines":[1,2,3]}}"#;

/// What one measurement gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Rates {
    fn of(mut latencies: Vec<Duration>, took: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            per_second: per_second(latencies.len(), took),
            p50_ms: quantile(&latencies, 0.5),
            p99_ms: quantile(&latencies, 0.99),
        }
    }
}

pub(crate) fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// What a plain HTTP client does at the receiver, with nothing in between.
pub(crate) async fn bare(url: &str, connections: usize, count: usize) -> Result<Rates> {
    // Plain http only; the client still wants to be told that there is no TLS to choose.
    relaypost_testkit::tls_provider();
    let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let left = Arc::new(AtomicUsize::new(count));
    let began = Instant::now();
    let tasks = (0..connections).map(|_| {
        let (client, left, url) = (client.clone(), left.clone(), url.to_owned());
        async move {
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while take(&left).is_some() {
                    let sent = Instant::now();
                    let request = client.post(&url).header("content-type", "application/json");
                    let response = request.body(BODY).send().await?;
                    ensure!(
                        response.status().is_success(),
                        "{url} answered {}",
                        response.status()
                    );
                    response.bytes().await?;
                    latencies.push(sent.elapsed());
                }
                Ok(latencies)
            })
            .await?
        }
    });
    let latencies = try_join_all(tasks).await?;
    Ok(Rates::of(latencies.concat(), began.elapsed()))
}

/// The next one, if there is one left.
fn take(left: &AtomicUsize) -> Option<usize> {
    let next = |left: usize| left.checked_sub(1);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .ok()
}

/// A request, ready to be written.
#[derive(Clone)]
pub(crate) struct Request {
    address: String,
    bytes: Vec<u8>,
    /// Where the digits of its idempotency key stand.
    key_at: Option<usize>,
}

/// What stands before the digits of an idempotency key.
const KEY_HEADER: &str = "idempotency-key: ";
const KEY_DIGITS: usize = 16;
/// The number of the next idempotency key: no two requests have the same.
static NEXT_KEY: AtomicU64 = AtomicU64::new(0);

impl Request {
    /// `POST` of a JSON body.
    pub(crate) fn post(url: &str, key: Option<&str>, body: &str) -> Result<Self> {
        let url = Url::parse(url)?;
        let (host, port) = (
            url.host_str().context("a host")?,
            url.port().context("a port")?,
        );
        let address = format!("{host}:{port}");
        let authorization = key.map(|key| format!("authorization: Bearer {key}\r\n"));
        let bytes = format!(
            "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\r\n{body}",
            url.path(),
            authorization.unwrap_or_default(),
            body.len(),
        );
        Ok(Self {
            address,
            bytes: bytes.into_bytes(),
            key_at: None,
        })
    }

    /// The same with an idempotency key that is another one each time.
    fn keyed(mut self) -> Result<Self> {
        let mut lines = self.bytes.windows(2);
        let first_line = lines.position(|two| two == b"\r\n").context("a line")? + 2;
        let header = format!("{KEY_HEADER}{:0KEY_DIGITS$}\r\n", 0);
        self.bytes.splice(first_line..first_line, header.bytes());
        self.key_at = Some(first_line + KEY_HEADER.len());
        Ok(self)
    }

    /// Writes a key in that no request had.
    fn renew_key(&mut self) {
        let Some(digits) = self.key_at.map(|at| &mut self.bytes[at..at + KEY_DIGITS]) else {
            return;
        };
        let number = NEXT_KEY.fetch_add(1, Ordering::Relaxed);
        digits.copy_from_slice(format!("{number:0KEY_DIGITS$}").as_bytes());
    }

    /// Publishes [`BODY`].
    pub(crate) fn publish(api: &Api) -> Result<Self> {
        Self::post(
            &format!("{}/v1/messages", api.base()),
            Some(api.key()),
            BODY,
        )
    }

    /// Publishes a message of this type.
    pub(crate) fn publish_as(api: &Api, event_type: &str) -> Result<Self> {
        let payload =
            json!({"id": "in_1042", "total": 1999, "currency": "eur", "lines": [1, 2, 3]});
        let body = json!({"event_type": event_type, "payload": payload}).to_string();
        Self::post(
            &format!("{}/v1/messages", api.base()),
            Some(api.key()),
            &body,
        )
    }
}

/// A connection that sends one request after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(request: &Request) -> Result<Self> {
        let stream = TcpStream::connect(&request.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4096),
        })
    }

    /// Sends a request and reads the whole answer, which has to be a 2xx.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<()> {
        self.stream.write_all(&request.bytes).await?;
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read().await?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]);
        ensure!(
            text.get(9..10) == Some("2"),
            "{} answered {text}",
            request.address
        );
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = name
                .eq_ignore_ascii_case("content-length")
                .then(|| value.trim());
            value?.parse::<usize>().ok()
        });
        let whole = head + length.with_context(|| format!("an answer without a length: {text}"))?;
        while self.buffer.len() < whole {
            self.read().await?;
        }
        self.buffer.drain(..whole);
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection was closed");
        Ok(())
    }
}

/// Sends `count` requests, these in turns.
pub(crate) async fn send_all(
    requests: &[Request],
    connections: usize,
    count: usize,
) -> Result<Rates> {
    let left = Arc::new(AtomicUsize::new(count));
    let began = Instant::now();
    let tasks = (0..connections).map(|_| {
        let (mut requests, left) = (requests.to_vec(), left.clone());
        async move {
            tokio::spawn(async move {
                let mut connection = Connection::open(&requests[0]).await?;
                let mut latencies = Vec::new();
                while let Some(number) = take(&left) {
                    let turn = number % requests.len();
                    requests[turn].renew_key();
                    let sent = Instant::now();
                    connection.send(&requests[turn]).await?;
                    latencies.push(sent.elapsed());
                }
                anyhow::Ok(latencies)
            })
            .await?
        }
    });
    let latencies = try_join_all(tasks).await?;
    Ok(Rates::of(latencies.concat(), began.elapsed()))
}

/// Publishes messages.
pub(crate) async fn publish(api: &Api, connections: usize, count: usize) -> Result<Rates> {
    send_all(&[Request::publish(api)?], connections, count).await
}

/// Publishes messages, each with an idempotency key of its own.
pub(crate) async fn publish_keyed(api: &Api, connections: usize, count: usize) -> Result<Rates> {
    send_all(&[Request::publish(api)?.keyed()?], connections, count).await
}
