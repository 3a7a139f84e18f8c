//! The memory of a worker: with a large backlog, and with thousands of receivers that hang.

use std::time::Duration;

use anyhow::Result;
use relaypost_testkit::Reply;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    Bench, CONNECTIONS,
    cpu::peak_memory_mib,
    fill::Fill,
    load::{self, Request},
    options::given,
    redis,
    stack::{Sink, Stack, options},
};

const ENDPOINTS: usize = 50;
/// Connections to receivers that hang.
const HANGING: usize = 5_000;

pub(crate) async fn run(bench: &mut Bench) -> Result<()> {
    drain(bench).await?;
    hang(bench).await
}

/// `BENCH_BACKLOG` deliveries (1,000,000; quick: 100,000) that no queue knows of. The worker finds them as it would after
/// Redis had lost everything, and delivers for two minutes (quick: 20 s) or until there are none left.
async fn drain(bench: &mut Bench) -> Result<()> {
    let backlog = given(
        "BENCH_BACKLOG",
        if bench.quick { 100_000 } else { 1_000_000 },
    )?;
    let time = Duration::from_secs(if bench.quick { 20 } else { 120 });
    let mut stack = Stack::start(&bench.bin_dir, 0).await?;
    let sink = Sink::start(1).await;
    let requests = endpoints(&stack, &sink).await?;
    let published = requests.len();
    load::send_all(&requests, 1, published).await?;
    let fill = Fill {
        count: backlog.saturating_sub(published) as u64,
        first: 1,
        minutes: 60,
    };
    fill.copy_all(&stack.postgres).await?;
    eprintln!("{backlog} deliveries wait");
    let began = Instant::now();
    let pid = stack.world.start_worker().await.pid();
    let first = loop {
        sleep(Duration::from_millis(100)).await;
        let arrived = sink.receiver.distinct();
        if arrived >= backlog || began.elapsed() >= time {
            break arrived;
        }
    };
    let took = began.elapsed();
    let report = &mut bench.report;
    report.add("backlog: deliveries that waited", "", backlog as f64);
    report.add("backlog: delivered by one worker", "", first as f64);
    report.add(
        "backlog: delivered by one worker",
        "deliveries/s",
        load::per_second(first, took),
    );
    report.add(
        "backlog: peak memory of the worker",
        "MiB",
        peak_memory_mib(pid)?,
    );
    if let Some(bytes) = redis::info(stack.world.redis(), "used_memory_peak").await {
        report.add(
            "backlog: peak memory of Redis",
            "MiB",
            bytes / 1024.0 / 1024.0,
        );
    }
    stack.stop().await
}

/// 5,000 webhooks under way at the same time, none of which is answered.
async fn hang(bench: &mut Bench) -> Result<()> {
    let options = options(&bench.bin_dir)
        .workers(1)
        .env("WEBHOOK_CONCURRENCY", &HANGING.to_string())
        .env("WEBHOOK_TIMEOUT_MS", "120000");
    let mut stack = Stack::start_with(options).await?;
    let sink = Sink::start(1).await;
    sink.receiver.respond(Reply::Hang);
    let requests = endpoints(&stack, &sink).await?;
    let worker = stack.world.workers[0].pid();
    let idle = peak_memory_mib(worker)?;
    load::send_all(&requests, CONNECTIONS, HANGING).await?;
    sink.receiver
        .wait_in_flight(HANGING, Duration::from_secs(60))
        .await;
    let report = &mut bench.report;
    report.add(
        "hanging receivers: connections at the same time",
        "",
        sink.receiver.in_flight() as f64,
    );
    report.add(
        "hanging receivers: peak memory of the worker",
        "MiB",
        peak_memory_mib(worker)?,
    );
    report.add(
        "hanging receivers: peak memory of the worker before",
        "MiB",
        idle,
    );
    // It would wait for their answers if it were told to stop.
    stack.world.workers.clear();
    sink.receiver.release();
    stack.stop().await
}

/// Fifty endpoints of a tenant, and a request for each.
async fn endpoints(stack: &Stack, sink: &Sink) -> Result<Vec<Request>> {
    let tenant = stack.world.tenant("backlog").await;
    let mut requests = Vec::new();
    for number in 0..ENDPOINTS {
        let name = format!("bench.{number}");
        let url = sink.receiver.url(&format!("/{number}"));
        tenant
            .endpoint_with(json!({"url": url, "event_types": [name]}))
            .await;
        requests.push(Request::publish_as(&tenant.api, &name)?);
    }
    Ok(requests)
}
