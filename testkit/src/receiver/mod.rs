//! A webhook receiver: a real HTTP server on a port of its own that records what arrives, byte for byte.

mod http;
mod script;
mod server;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use script::{Reply, ReplyFn};
use server::{Shared, Tally};

use crate::wait::watched;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Every header in order of arrival, duplicates included.
    pub headers: Vec<(String, String)>,
    /// The exact bytes of the body.
    pub body: Vec<u8>,
    /// When its head had been read.
    pub at: Instant,
}

impl Hit {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// What the scripts around the public verifier packages read on stdin.
    pub fn verifier_input(&self, secret: &str) -> Value {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: HashMap<_, _> = names.iter().map(|n| (*n, self.header(n))).collect();
        let body = base64::engine::general_purpose::STANDARD.encode(&self.body);
        json!({"secret": secret, "headers": headers, "body_base64": body})
    }
}

/// A webhook receiver. Answers 200 until told otherwise; stops when dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port of the loopback interface.
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::new());
        let server = tokio::spawn(server::accept(listener, shared.clone()));
        Receiver {
            addr,
            shared,
            server,
        }
    }

    /// The address of `path` (with its leading slash) on this receiver.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Answers like this from the next request on.
    pub fn respond(&self, reply: Reply) {
        *self.shared.script.lock().unwrap() = reply;
    }

    /// `false`: keep no requests, only count them by `webhook-id`.
    pub fn record(&self, on: bool) {
        self.shared.recording.store(on, Ordering::Relaxed);
    }

    /// Everything that has arrived, in order.
    pub fn hits(&self) -> Vec<Hit> {
        self.shared.hits.lock().unwrap().clone()
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.shared.tally.borrow().hits
    }

    /// How many different `webhook-id`s have arrived.
    pub fn distinct(&self) -> usize {
        self.shared.tally.borrow().distinct
    }

    /// How often each `webhook-id` has arrived.
    pub fn by_webhook_id(&self) -> HashMap<String, u32> {
        self.shared.by_id.lock().unwrap().clone()
    }

    /// How many requests [`Reply::Hang`] holds whose client is still there.
    pub fn in_flight(&self) -> usize {
        self.shared.tally.borrow().held
    }

    /// Answers 200 to everything that hangs, and to everything after it.
    pub fn release(&self) {
        let mut script = self.shared.script.lock().unwrap();
        *script = Reply::Status(200);
        self.shared
            .released
            .send_modify(|generation| *generation += 1);
    }

    /// Waits until at least `n` requests have arrived.
    pub async fn wait_for(&self, n: usize, deadline: Duration) {
        self.wait(&format!("{n} requests"), deadline, |tally| tally.hits >= n)
            .await;
    }

    /// Waits until at least `n` different `webhook-id`s have arrived.
    pub async fn wait_for_distinct(&self, n: usize, deadline: Duration) {
        self.wait(&format!("{n} webhook-ids"), deadline, |tally| {
            tally.distinct >= n
        })
        .await;
    }

    /// Waits until at least `n` requests hang at the same time.
    pub async fn wait_in_flight(&self, n: usize, deadline: Duration) {
        self.wait(&format!("{n} in flight"), deadline, |tally| tally.held >= n)
            .await;
    }

    /// Waits until at most `n` requests hang.
    pub async fn wait_in_flight_at_most(&self, n: usize, deadline: Duration) {
        self.wait(&format!("at most {n} in flight"), deadline, |tally| {
            tally.held <= n
        })
        .await;
    }

    async fn wait(&self, what: &str, deadline: Duration, done: impl Fn(&Tally) -> bool) {
        let seen = || format!("wanted {what}; {}", self.summary());
        watched(&self.shared.tally, deadline, done, seen).await;
    }

    fn summary(&self) -> String {
        let Tally {
            hits,
            distinct,
            held,
        } = *self.shared.tally.borrow();
        let mut text = format!("{hits} requests, {distinct} webhook-ids, {held} in flight");
        for hit in self.shared.hits.lock().unwrap().iter().take(20) {
            let id = hit.header("webhook-id").unwrap_or("-");
            text.push_str(&format!(
                "\n  {} {} {id} {} bytes",
                hit.method,
                hit.path,
                hit.body.len()
            ));
        }
        text
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}
