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
    report::{Report, SHARE, Target},
    stack::{Sink, Stack},
    throughput::{Run, end_to_end_of},
};

/// Deliveries that are stored at first.
const FEW: usize = 10_000;
const TENANTS: usize = 20;
/// Endpoints of each tenant.
const ENDPOINTS: usize = 10;
/// The stored ones were accepted over six days: the product makes partitions for the last week and this one.
const MINUTES: u64 = 6 * 24 * 60;

/// What is compared, and how a change for the worse is signed.
const COMPARED: [(&str, &str, f64); 4] = [
    ("CPU per delivery, all processes", "µs", 1.0),
    ("WAL per delivery", "bytes", 1.0),
    ("end to end", "deliveries/s", -1.0),
    ("end to end", SHARE, -1.0),
];

/// The product, and what is published to it.
struct Growth {
    stack: Stack,
    sink: Sink,
    requests: Vec<Request>,
    /// Messages published so far.
    sent: usize,
}

/// `BENCH_GROWTH_ROWS` sets how many are stored in the end (5,000,000; quick: 500,000).
pub(crate) async fn run(bench: &mut Bench, rounds: usize) -> Result<()> {
    let default = if bench.quick { 500_000 } else { 5_000_000 };
    let many = given("BENCH_GROWTH_ROWS", default)?;
    let lowest = 20 * FEW;
    ensure!(many >= lowest, "BENCH_GROWTH_ROWS is at least {lowest}");
    let stack = Stack::start(&bench.bin_dir, 1).await?;
    let sink = Sink::start(1).await;
    let requests = tenants(&stack, &sink).await?;
    let mut growth = Growth {
        stack,
        sink,
        requests,
        sent: 0,
    };
    // One of each endpoint, as patterns.
    growth.publish(growth.requests.len()).await?;
    for (size, label) in [(FEW, "few"), (many, "many")] {
        growth.fill(size).await?;
        let start = idle(&mut growth.stack).await?;
        let what =
            format!("{label} stored: start of a worker until idle, CPU of worker and PostgreSQL");
        bench.report.add(what, "s", start.as_secs_f64());
        growth.measure(bench, label, rounds).await?;
        let what = format!("{label} stored: deliveries at the end of these runs");
        bench.report.add(what, "", growth.stored().await? as f64);
    }
    compare(&mut bench.report);
    bench.bare.report(&mut bench.report).await?;
    growth.stack.stop().await
}

impl Growth {
    async fn publish(&mut self, count: usize) -> Result<Run> {
        let (stack, sink) = (&mut self.stack, &self.sink);
        let run = end_to_end_of(stack, &self.requests, sink, self.sent, count).await?;
        self.sent += count;
        self.stack.postgres.settled(DEADLINE).await?;
        Ok(run)
    }

    async fn stored(&self) -> Result<usize> {
        let stored: i64 = self
            .stack
            .postgres
            .get("SELECT COUNT(*) FROM deliveries")
            .await?;
        Ok(stored.try_into()?)
    }

    /// Stores as many as are missing, and starts a new worker: what one does while rows appear beside it is no part of
    /// this.
    async fn fill(&mut self, size: usize) -> Result<()> {
        self.stack.stop_workers().await?;
        let stored = self.stored().await?;
        let began = Instant::now();
        let fill = Fill {
            count: size.saturating_sub(stored) as u64,
            first: stored as u64 + 1,
            minutes: MINUTES,
        };
        let postgres = &self.stack.postgres;
        fill.copy_all(postgres).await?;
        let size_now = "SELECT pg_database_size(current_database())::float8";
        let gigabytes = postgres.get::<f64>(size_now).await? / 1e9;
        let took = began.elapsed().as_secs_f64();
        eprintln!("{size} deliveries stored, {gigabytes:.1} GB, in {took:.0} s");
        self.stack.world.start_worker().await;
        Ok(())
    }

    async fn measure(&mut self, bench: &mut Bench, label: &str, rounds: usize) -> Result<()> {
        let count = bench.sizes.end_to_end;
        // Warms caches, and what the checkpoint left is written to WAL once in full.
        self.publish(count / 2).await?;
        for _ in 0..rounds {
            bench.bare.measure().await?;
            let run = self.publish(count).await?;
            bench.bare.measure().await?;
            let values = [
                micros_each(run.cost.usage.product(), count),
                run.cost.wal_bytes / count as f64,
                run.per_second,
                run.per_second / bench.bare.around(),
            ];
            for ((what, unit, _), value) in COMPARED.into_iter().zip(values) {
                bench
                    .report
                    .add(format!("{label} stored: {what}"), unit, value);
            }
        }
        Ok(())
    }
}

fn compare(report: &mut Report) {
    for (what, unit, sign) in COMPARED {
        let at = |label: &str| report.median(&format!("{label} stored: {what}"), unit);
        if let (Some(few), Some(many)) = (at("few"), at("many")) {
            let change = (many / few - 1.0) * 100.0 * sign;
            let what = format!("growth of the cost, from few to many: {what} ({unit})");
            // It has no aim of its own.
            report.judge(what, "%", change, Target::at_most(20.0, 20.0));
        }
    }
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
