//! Steady traffic, and how long each message takes from the request that publishes it to the endpoint.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use relaypost_testkit::{Receiver, Reply, Tenant};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

/// When a message was sent off, and when it arrived.
type Way = (Instant, Option<Instant>);

/// The way of each message, by a number that its payload carries.
#[derive(Clone, Default)]
pub(crate) struct Times(Arc<Mutex<HashMap<u64, Way>>>);

impl Times {
    fn sent(&self, number: u64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.insert(number, (Instant::now(), None));
    }

    fn arrived(&self, number: u64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, arrived)) = times.get_mut(&number) {
            arrived.get_or_insert(Instant::now());
        }
    }

    /// The latencies of those of these messages that have arrived, the shortest first.
    pub(crate) fn of(&self, numbers: impl Iterator<Item = u64>) -> Vec<Duration> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latencies: Vec<Duration> = numbers
            .filter_map(|number| {
                let (sent, arrived) = times.get(&number)?;
                Some((*arrived)? - *sent)
            })
            .collect();
        latencies.sort_unstable();
        latencies
    }
}

/// A receiver that answers 200 and notes when each message came.
pub(crate) async fn receiver(times: &Times) -> Receiver {
    let receiver = Receiver::start().await;
    receiver.record(false);
    answer(&receiver, times);
    receiver
}

/// Has a receiver answer 200 and note when each message comes.
pub(crate) fn answer(receiver: &Receiver, times: &Times) {
    let times = times.clone();
    receiver.respond(Reply::func(move |hit| {
        let body: Option<serde_json::Value> = serde_json::from_slice(&hit.body).ok();
        if let Some(number) = body.and_then(|body| body["number"].as_u64()) {
            times.arrived(number);
        }
        (200, Vec::new(), Vec::new())
    }));
}

/// Publishes `count` messages, `per_second` a second, from number `first` on, with the event type that `event_type` gives
/// to a number.
pub(crate) async fn publish(
    tenant: &Tenant,
    times: &Times,
    first: u64,
    count: u64,
    per_second: u64,
    event_type: impl Fn(u64) -> String,
) -> Result<()> {
    let mut beats = tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second)?);
    let mut requests = JoinSet::new();
    for number in first..first + count {
        beats.tick().await;
        let message = json!({"event_type": event_type(number), "payload": {"number": number}});
        let (api, times) = (tenant.api.clone(), times.clone());
        requests.spawn(async move {
            times.sent(number);
            api.post("/v1/messages", message).await.status
        });
    }
    while let Some(status) = requests.join_next().await {
        ensure!(status? == 201, "a message was not accepted");
    }
    Ok(())
}

/// The latency that this share of the messages stays under, in milliseconds.
pub(crate) fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = ((sorted.len() as f64 * share) as usize).min(last);
    sorted
        .get(index)
        .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
}
