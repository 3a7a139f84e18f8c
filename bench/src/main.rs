//! Measures Relaypost on PostgreSQL and Redis beside a bare HTTP client at the same receiver, in one run on one machine.
//! `scripts/bench` starts the services and builds the binaries.

mod engine;
mod load;
mod steady;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use load::{Rates, bare, publish};
use relaypost_testkit::{Backend, Receiver, World, WorldOptions};
use serde_json::json;
use tokio::time::Instant;

/// Connections that publish at the same time.
const CONNECTIONS: usize = 64;
/// Nothing measured here takes this long.
const DEADLINE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<()> {
    let bin_dir = std::env::current_exe()?
        .parent()
        .map(PathBuf::from)
        .context("the benchmark lies in no folder")?;
    let quick = std::env::var("BENCH_QUICK").is_ok_and(|value| value == "1");
    if std::env::args().nth(1).as_deref() == Some("engine") {
        let (seconds, backlog) = if quick { (5, 10_000) } else { (30, 100_000) };
        return engine::run(&bin_dir, seconds, backlog).await;
    }
    let messages = if quick { 5_000 } else { 20_000 };
    let receiver = Arc::new(Receiver::start().await);
    receiver.record(false);

    let bare = bare(&receiver.url("/bare"), CONNECTIONS, messages).await?;
    let options = WorldOptions {
        backend: Backend::Stack,
        ..WorldOptions::new(bin_dir)
    };
    let mut world = World::start(options.workers(0)).await;
    let tenant = world.tenant("bench").await;
    tenant.endpoint(&receiver.url("/hook"), &["bench"]).await;

    let before = receiver.count();
    let ingest = publish(&tenant.api, CONNECTIONS, messages).await?;
    let began = Instant::now();
    world.start_worker().await;
    receiver.wait_for(before + messages, DEADLINE).await;
    let drain = Rates::only(messages, began.elapsed());

    let before = receiver.count();
    let began = Instant::now();
    let ingest_on = publish(&tenant.api, CONNECTIONS, messages).await?;
    receiver.wait_for(before + messages, DEADLINE).await;
    let end_to_end = Rates::only(messages, began.elapsed());
    world.stop().await;

    let rows = [
        ("bare client", &bare),
        ("ingest, 64 connections, delivery off", &ingest),
        ("backlog drain, one worker, from its start", &drain),
        ("ingest, 64 connections, delivery on", &ingest_on),
        ("end to end, one endpoint", &end_to_end),
    ];
    println!(
        "| figure ({messages} messages) | per second | share of bare | p50 ms | p99 ms |\n|---|---|---|---|---|"
    );
    for (name, rates) in rows {
        println!(
            "| {name} | {:.0} | {:.3} | {} |",
            rates.per_second,
            rates.per_second / bare.per_second,
            rates.latencies()
        );
    }
    let list: Vec<_> = rows.iter().map(|(name, rates)| json!({ "figure": name, "per_second": rates.per_second, "p50_ms": rates.p50_ms, "p99_ms": rates.p99_ms })).collect();
    println!("{}", json!({ "messages": messages, "figures": list }));
    Ok(())
}
