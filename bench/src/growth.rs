//! What a delivery costs with few and with many of them stored.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    Bench, DEADLINE,
    cpu::micros_each,
    fill::Fill,
    load::Request,
    options::given,
    report::{SHARE, Target},
    stack::{Sink, Stack},
    throughput::end_to_end_of,
};

/// Deliveries that are stored at first.
const FEW: usize = 10_000;
const TENANTS: usize = 20;
/// Endpoints of each tenant.
const ENDPOINTS: usize = 10;
/// The stored ones were accepted over twenty days.
const MINUTES: u64 = 20 * 24 * 60;

/// What is compared, and how a change for the worse is signed.
const COMPARED: [(&str, &str, f64); 3] = [
    ("CPU per delivery, all processes", "µs", 1.0),
    ("WAL per delivery", "bytes", 1.0),
    ("end to end", "deliveries/s", -1.0),
];

/// `BENCH_GROWTH_ROWS` sets how many are stored in the end (5,000,000; quick: 500,000).
pub(crate) async fn run(bench: &mut Bench, rounds: usize) -> Result<()> {
    let many = given(
        "BENCH_GROWTH_ROWS",
        if bench.quick { 500_000 } else { 5_000_000 },
    )?;
    ensure!(
        many > 2 * FEW,
        "BENCH_GROWTH_ROWS has to be above {}",
        2 * FEW
    );
    let mut stack = Stack::start(&bench.bin_dir, 1).await?;
    let sink = Sink::start(1).await;
    let requests = tenants(&stack, &sink).await?;

    // One of each endpoint, as patterns.
    let mut sent = requests.len();
    end_to_end_of(&mut stack, &requests, &sink, 0, sent).await?;
    stack.postgres.settled(DEADLINE).await?;
    let mut stored = sent;
    for (size, label) in [(FEW, "few"), (many, "many")] {
        // What a worker does while the rows appear beside it is no part of this.
        stack.stop_workers().await?;
        let began = Instant::now();
        let fill = Fill {
            count: size.saturating_sub(stored) as u64,
            // Beyond what this database can hold of anything else.
            first: stored as u64 + 1,
            minutes: MINUTES,
        };
        fill.copy_all(&stack.postgres).await?;
        let bytes: f64 = stack
            .postgres
            .get("SELECT pg_database_size(current_database())::float8")
            .await?;
        eprintln!(
            "{size} deliveries stored, {:.1} GB, in {:.0} s",
            bytes / 1e9,
            began.elapsed().as_secs_f64()
        );
        stack.world.start_worker().await;
        let walk = idle(&mut stack).await?;
        let what =
            format!("{label} stored: start of a worker until idle, CPU of worker and PostgreSQL");
        bench.report.add(what, "s", walk.as_secs_f64());
        // Warms caches, and the pages that the checkpoint left are written to WAL once in full.
        let warm = bench.sizes.end_to_end / 2;
        end_to_end_of(&mut stack, &requests, &sink, sent, warm).await?;
        sent += warm;
        for _ in 0..rounds {
            let count = bench.sizes.end_to_end;
            stack.postgres.settled(DEADLINE).await?;
            bench.bare.measure().await?;
            let run = end_to_end_of(&mut stack, &requests, &sink, sent, count).await?;
            bench.bare.measure().await?;
            sent += count;
            let values = [
                micros_each(run.cost.usage.product(), count),
                run.cost.wal_bytes / count as f64,
                run.per_second,
            ];
            for ((what, unit, _), value) in COMPARED.into_iter().zip(values) {
                bench
                    .report
                    .add(format!("{label} stored: {what}"), unit, value);
            }
            let share = run.per_second / bench.bare.around();
            bench
                .report
                .add(format!("{label} stored: end to end"), SHARE, share);
        }
        stack.postgres.settled(DEADLINE).await?;
        stored = stack
            .postgres
            .get::<i64>("SELECT COUNT(*) FROM deliveries")
            .await?
            .try_into()?;
        bench.report.add(
            format!("{label} stored: deliveries at the end of these runs"),
            "",
            stored as f64,
        );
    }
    let worse = COMPARED.into_iter().chain([("end to end", SHARE, -1.0)]);
    for (what, unit, sign) in worse {
        let at = |label: &str| {
            bench
                .report
                .median(&format!("{label} stored: {what}"), unit)
        };
        if let (Some(few), Some(many)) = (at("few"), at("many")) {
            let change = (many / few - 1.0) * 100.0 * sign;
            let what = format!("growth of the cost, from few to many: {what} ({unit})");
            // No aim of its own.
            bench
                .report
                .judge(what, "%", change, Target::at_most(20.0, 20.0));
        }
    }
    bench.bare.report(&mut bench.report).await?;
    stack.stop().await
}

/// Tenants with their endpoints, and a request for each endpoint.
async fn tenants(stack: &Stack, sink: &Sink) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for tenant in 0..TENANTS {
        let tenant = stack.world.tenant(&format!("tenant {tenant}")).await;
        for endpoint in 0..ENDPOINTS {
            let name = format!("bench.{endpoint}");
            let url = sink.receiver.url(&format!("/{endpoint}"));
            let body = json!({"url": url, "event_types": [name]});
            tenant.endpoint_with(body).await;
            requests.push(Request::publish_as(&tenant.api, &name)?);
        }
    }
    Ok(requests)
}

/// Waits until worker and PostgreSQL have done what a start takes (a worker looks at everything once), and returns what
/// that took.
async fn idle(stack: &mut Stack) -> Result<Duration> {
    const LOOK: Duration = Duration::from_secs(1);
    let began = Instant::now();
    let first = stack.cost().await?.usage;
    let mut last = first;
    loop {
        sleep(LOOK).await;
        let now = stack.cost().await?.usage;
        let since = now.since(last);
        if since.worker + since.postgres < LOOK / 20 || began.elapsed() > DEADLINE {
            let all = now.since(first);
            return Ok(all.worker + all.postgres);
        }
        last = now;
    }
}
