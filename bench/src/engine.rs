//! What one delays another: an endpoint that hangs, a tenant with a backlog, a replay of thousands.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use relaypost_testkit::{Receiver, Reply, Tenant, World, eventually};
use serde_json::{Value, json};

use crate::{
    DEADLINE,
    latency::{self, STEADY},
    load,
    stack::options,
    steady::{self, Times, answer, quantile, receiver},
};

fn row(what: &str, latencies: &[Duration]) {
    println!(
        "| {what} | {} | {:.1} | {:.1} | {:.1} |",
        latencies.len(),
        quantile(latencies, 0.5),
        quantile(latencies, 0.99),
        quantile(latencies, 1.0)
    );
}

/// Runs all of them; `seconds` is how long each phase of steady traffic lasts.
pub(crate) async fn run(bin_dir: &Path, seconds: u64, backlog: usize) -> Result<()> {
    println!("| delivery latency | messages | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|");
    isolation(bin_dir, seconds).await?;
    fairness(bin_dir, backlog).await?;
    replays(bin_dir, seconds).await
}

/// Five endpoints at 50 messages a second in total; then one of them hangs.
async fn isolation(bin_dir: &Path, seconds: u64) -> Result<()> {
    let world = World::start(options(bin_dir).workers(2)).await;
    let (before, beside) = latency::isolation(&world, seconds).await?;
    row("five endpoints, all healthy: four of them", &before);
    row("one of the five hangs: the other four", &beside);
    let ratio = quantile(&beside, 0.99) / quantile(&before, 0.99);
    println!("| p99 with the hanging one, as a multiple | | | {ratio:.2} | |");
    world.stop().await;
    Ok(())
}

/// One tenant has a backlog, and another publishes.
async fn fairness(bin_dir: &Path, backlog: usize) -> Result<()> {
    let mut world = World::start(options(bin_dir).workers(0)).await;
    let (busy, other) = (world.tenant("busy").await, world.tenant("other").await);
    let (times, sink) = (Times::default(), Receiver::start().await);
    sink.record(false);
    busy.endpoint(&sink.url("/"), &["bench"]).await;
    let quiet = receiver(&times).await;
    other.endpoint(&quiet.url("/"), &[]).await;
    load::publish(&busy.api, 64, backlog).await?;
    world.start_worker().await;
    let count = 2 * STEADY;
    steady::publish(&other, &times, 0, count, STEADY, |_| "other".to_owned()).await?;
    quiet.wait_for(usize::try_from(count)?, DEADLINE).await;
    let left = backlog.saturating_sub(sink.count());
    row(
        &format!("another tenant has a backlog of {backlog} ({left} left at the end)"),
        &times.of(0..count),
    );
    world.stop().await;
    Ok(())
}

/// 10,000 dead letters are replayed at 500 a second while another endpoint gets steady traffic.
async fn replays(bin_dir: &Path, seconds: u64) -> Result<()> {
    const DEAD: usize = 10_000;
    let options = options(bin_dir).env("CIRCUIT_FAILURE_THRESHOLD", "100000");
    let world = World::start(options.workers(2)).await;
    let tenant = world.tenant("replays").await;
    let (times, broken) = (Times::default(), Receiver::start().await);
    broken.record(false);
    broken.respond(Reply::Status(400));
    let live = receiver(&times).await;
    tenant.endpoint(&live.url("/"), &["live"]).await;
    let dead = json!({"url": broken.url("/"), "event_types": ["bench"], "retry_schedule": []});
    tenant.endpoint_with(dead).await;
    load::publish(&tenant.api, 64, DEAD).await?;
    broken.wait_for(DEAD, DEADLINE).await;
    wait_dead(&tenant, DEAD).await;

    let count = seconds * STEADY;
    steady::publish(&tenant, &times, 0, count, STEADY, |_| "live".to_owned()).await?;
    answer(&broken, &times);
    let body = json!({"filter": {}, "rate_per_s": 500});
    let job = tenant.api.post("/v1/dlq/replay", body).await.expect(202);
    steady::publish(&tenant, &times, count, count, STEADY, |_| "live".to_owned()).await?;
    let path = format!("/v1/replays/{}", job["id"].as_str().unwrap_or_default());
    let done = wait_completed(&tenant, &path).await;
    let took = seconds_between(&done["created_at"], &done["finished_at"])?;
    ensure!(done["by_outcome"]["delivered"] == DEAD, "{done}");
    live.wait_for(usize::try_from(2 * count)?, DEADLINE).await;
    row("live traffic alone", &times.of(0..count));
    row(
        "live traffic beside a replay of 10,000 at 500/s",
        &times.of(count..2 * count),
    );
    println!("| the replay: {:.0} a second | | | | |", DEAD as f64 / took);
    world.stop().await;
    Ok(())
}

async fn wait_dead(tenant: &Tenant, count: usize) {
    eventually(DEADLINE, || async {
        let stats = tenant.api.get("/v1/stats").await.expect(200);
        if stats["dead_letters"]["webhook"] == count {
            Ok(())
        } else {
            Err(stats.to_string())
        }
    })
    .await;
}

async fn wait_completed(tenant: &Tenant, path: &str) -> Value {
    eventually(DEADLINE, || async {
        let job = tenant.api.get(path).await.expect(200);
        if job["status"] == "completed" {
            Ok(job)
        } else {
            Err(job.to_string())
        }
    })
    .await
}

/// Seconds between two moments, as the API shows them.
fn seconds_between(from: &Value, to: &Value) -> Result<f64> {
    let read = |moment: &Value| {
        let text = moment.as_str().context("a moment")?;
        anyhow::Ok(DateTime::parse_from_rfc3339(text)?)
    };
    Ok((read(to)? - read(from)?).as_seconds_f64())
}
