//! The load generator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use relaypost_testkit::Api;
use reqwest::Client;
use tokio::time::Instant;

const BODY: &str = r#"{"event_type":"bench","payload":{"id":"in_1042","total":1999,"currency":"eur","lines":[1,2,3]}}"#;

/// What one measurement gave.
pub(crate) struct Rates {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

impl Rates {
    pub(crate) fn only(count: usize, took: Duration) -> Self {
        Self {
            per_second: count as f64 / took.as_secs_f64(),
            p50_ms: None,
            p99_ms: None,
        }
    }

    fn with_latencies(mut all: Vec<Duration>, took: Duration) -> Self {
        all.sort_unstable();
        let at = |share: f64| {
            all.get((all.len() as f64 * share) as usize)
                .map(|one| one.as_secs_f64() * 1000.0)
        };
        Self {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            ..Self::only(all.len(), took)
        }
    }

    pub(crate) fn latencies(&self) -> String {
        let show =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1}"));
        format!("{} | {}", show(self.p50_ms), show(self.p99_ms))
    }
}

/// What a plain HTTP client does at the receiver, with nothing in between.
pub(crate) async fn bare(url: &str, connections: usize, count: usize) -> Result<Rates> {
    hammer(url, None, connections, count).await
}

/// Publishes messages.
pub(crate) async fn publish(api: &Api, connections: usize, count: usize) -> Result<Rates> {
    hammer(
        &format!("{}/v1/messages", api.base()),
        Some(api.key()),
        connections,
        count,
    )
    .await
}

async fn hammer(url: &str, key: Option<&str>, connections: usize, count: usize) -> Result<Rates> {
    // Plain http only; the client still wants to be told that there is no TLS to choose.
    relaypost_testkit::tls_provider();
    let client = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let left = Arc::new(AtomicUsize::new(count));
    let began = Instant::now();
    let tasks = (0..connections).map(|_| {
        let (client, left, url, key) = (
            client.clone(),
            left.clone(),
            url.to_owned(),
            key.map(str::to_owned),
        );
        async move {
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok()
                {
                    let sent = Instant::now();
                    let mut request = client
                        .post(&url)
                        .header("content-type", "application/json")
                        .body(BODY);
                    if let Some(key) = &key {
                        request = request.bearer_auth(key);
                    }
                    let response = request.send().await?;
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
    Ok(Rates::with_latencies(latencies.concat(), began.elapsed()))
}
