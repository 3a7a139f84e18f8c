//! How much goes in, through, and out of a backlog, and what that costs.

use anyhow::Result;
use relaypost_testkit::Tenant;
use tokio::time::Instant;

use crate::{
    Bench, CONNECTIONS, DEADLINE,
    cpu::{self, micros_each},
    load::{self, Rates, per_second},
    report::{Report, SHARE, Target},
    stack::{Cost, Sink, Stack},
};

/// Ingest with no worker running, and then how fast workers drain what has come together.
pub(crate) async fn backlog(bench: &mut Bench) -> Result<()> {
    let mut stack = Stack::start(&bench.bin_dir, 0).await?;
    let tenant = stack.world.tenant("backlog").await;
    let sink = Sink::start(1).await;
    let url = sink.receiver.url("/hook");
    tenant.endpoint(&url, &["bench"]).await;
    for (connections, count) in bench.sizes.ingest_off {
        ingest_off(bench, &stack, &tenant, connections, count).await?;
    }
    let keyed = load::publish_keyed(&tenant.api, CONNECTIONS, bench.sizes.keyed).await?;
    ingest(
        &mut bench.report,
        CONNECTIONS,
        "off, with idempotency keys",
        keyed,
    );
    let waiting = bench.sizes.backlog();
    let bound = Target::at_least(0.15, 0.25);
    let (rate, share) = drain(bench, &mut stack, &sink, 1, waiting).await?;
    let (what, report) = (
        "backlog drain, one worker, from its start",
        &mut bench.report,
    );
    report.add(what, "deliveries/s", rate);
    report.judge(what, SHARE, share, bound);

    stack.stop_workers().await?;
    load::publish(&tenant.api, CONNECTIONS, waiting).await?;
    let (rate, share) = drain(bench, &mut stack, &sink, 2, 2 * waiting).await?;
    let (what, report) = (
        "backlog drain, two workers, from their start",
        &mut bench.report,
    );
    report.add(what, "deliveries/s", rate);
    report.add(what, SHARE, share);
    stack.stop().await
}

async fn ingest_off(
    bench: &mut Bench,
    stack: &Stack,
    tenant: &Tenant,
    connections: usize,
    count: usize,
) -> Result<()> {
    let commits = bench.sizes.commits;
    bench.bare.measure().await?;
    let before = bare_commit(stack, connections, commits).await?;
    let rates = load::publish(&tenant.api, connections, count).await?;
    let after = bare_commit(stack, connections, commits).await?;
    bench.bare.measure().await?;
    let report = &mut bench.report;
    ingest(report, connections, "off", rates);
    if let (Some(before), Some(after)) = (before, after) {
        // The disk too is not equally fast at all times.
        let commit = f64::midpoint(before, after);
        report.add("bare INSERT with its commit, p50", "ms", commit);
        let above = "ingest, 1 connection, delivery off, p50 above the bare commit";
        let bound = Target::at_most(1.5, 0.5);
        report.judge(above, "ms", rates.p50_ms - commit, bound);
    }
    if connections == CONNECTIONS {
        let share = rates.per_second / bench.bare.around();
        let what = format!("ingest, {connections} connections, delivery off");
        let bound = Target::at_least(0.15, 0.25);
        report.judge(what, SHARE, share, bound);
    }
    Ok(())
}

/// Starts workers and waits until the sink has so many messages, all in all. Deliveries a second, and as a share of the
/// bare rate.
async fn drain(
    bench: &mut Bench,
    stack: &mut Stack,
    sink: &Sink,
    workers: usize,
    total: usize,
) -> Result<(f64, f64)> {
    bench.bare.measure().await?;
    let began = Instant::now();
    for _ in 0..workers {
        stack.world.start_worker().await;
    }
    let ended = sink.wait(total).await?;
    stack.postgres.settled(DEADLINE).await?;
    bench.bare.measure().await?;
    let rate = per_second(bench.sizes.backlog(), ended - began);
    Ok((rate, rate / bench.bare.around()))
}

/// What a commit takes, beside the one measurement that is compared with it: that of a single connection.
async fn bare_commit(stack: &Stack, connections: usize, commits: usize) -> Result<Option<f64>> {
    if connections > 1 {
        return Ok(None);
    }
    stack.postgres.commit_p50_ms(commits / 2).await.map(Some)
}

fn ingest(report: &mut Report, connections: usize, delivery: &str, rates: Rates) {
    let plural = if connections == 1 { "" } else { "s" };
    let what = format!("ingest, {connections} connection{plural}, delivery {delivery}");
    report.add(&what, "messages/s", rates.per_second);
    report.add(format!("{what}, p50"), "ms", rates.p50_ms);
    let p99 = format!("{what}, p99");
    if connections == CONNECTIONS && delivery == "off" {
        report.judge(p99, "ms", rates.p99_ms, Target::at_most(25.0, 15.0));
    } else {
        report.add(p99, "ms", rates.p99_ms);
    }
}

/// Ingest while one worker delivers, from end to end with one endpoint and with five, and what that costs.
pub(crate) async fn delivering(bench: &mut Bench) -> Result<()> {
    let mut stack = Stack::start(&bench.bin_dir, 1).await?;
    one_endpoint(bench, &mut stack).await?;
    five_endpoints(bench, &mut stack).await?;
    memory(&mut bench.report, &stack)?;
    stack.stop().await
}

async fn one_endpoint(bench: &mut Bench, stack: &mut Stack) -> Result<()> {
    let count = bench.sizes.end_to_end;
    let tenant = stack.world.tenant("one endpoint").await;
    let sink = Sink::start(1).await;
    let url = sink.receiver.url("/hook");
    tenant.endpoint(&url, &["bench"]).await;
    let mut published = 0;
    for (connections, count) in bench.sizes.ingest_on {
        let rates = load::publish(&tenant.api, connections, count).await?;
        published += count;
        sink.wait(published).await?;
        ingest(&mut bench.report, connections, "on", rates);
    }
    stack.postgres.settled(DEADLINE).await?;

    bench.bare.measure().await?;
    let run = end_to_end(stack, &tenant, &sink, published, count).await?;
    stack.postgres.settled(DEADLINE).await?;
    bench.bare.measure().await?;
    let (what, report) = ("end to end, 1 endpoint", &mut bench.report);
    ingest(report, CONNECTIONS, "on", run.ingest);
    let share = run.per_second / bench.bare.around();
    report.add(what, "deliveries/s", run.per_second);
    report.judge(what, SHARE, share, Target::at_least(0.10, 0.16));
    costs(report, what, run.cost, count);
    Ok(())
}

async fn five_endpoints(bench: &mut Bench, stack: &mut Stack) -> Result<()> {
    let count = bench.sizes.fan_out;
    let tenant = stack.world.tenant("five endpoints").await;
    let sink = Sink::start(5).await;
    for number in 0..5 {
        let url = sink.receiver.url(&format!("/{number}"));
        tenant.endpoint(&url, &["bench"]).await;
    }
    bench.bare.measure().await?;
    let run = end_to_end(stack, &tenant, &sink, 0, count).await?;
    stack.postgres.settled(DEADLINE).await?;
    bench.bare.measure().await?;
    let (what, report) = ("end to end, 5 endpoints per message", &mut bench.report);
    let share = run.per_second / bench.bare.around();
    report.add(what, "deliveries/s", run.per_second);
    report.judge(what, SHARE, share, Target::at_least(0.12, 0.18));
    let cpu = micros_each(run.cost.usage.product(), count * 5);
    report.add(
        format!("{what}, CPU per delivery: all processes"),
        "µs",
        cpu,
    );
    Ok(())
}

/// One run from the first request to the last receipt.
pub(crate) struct Run {
    pub(crate) ingest: Rates,
    /// Deliveries a second.
    pub(crate) per_second: f64,
    pub(crate) cost: Cost,
}

/// Publishes messages on 64 connections and waits until the last has arrived at each of its endpoints; `before` messages
/// have arrived there already.
pub(crate) async fn end_to_end(
    stack: &mut Stack,
    tenant: &Tenant,
    sink: &Sink,
    before: usize,
    count: usize,
) -> Result<Run> {
    let requests = [load::Request::publish(&tenant.api)?];
    end_to_end_of(stack, &requests, sink, before, count).await
}

/// The same with these requests in turns.
pub(crate) async fn end_to_end_of(
    stack: &mut Stack,
    requests: &[load::Request],
    sink: &Sink,
    before: usize,
    count: usize,
) -> Result<Run> {
    let cost = stack.cost().await?;
    let already = sink.receiver.count();
    let began = Instant::now();
    let ingest = load::send_all(requests, CONNECTIONS, count).await?;
    let ended = sink.wait(before + count).await?;
    let deliveries = sink.receiver.count() - already;
    Ok(Run {
        ingest,
        per_second: per_second(deliveries, ended - began),
        cost: stack.cost_since(cost).await?,
    })
}

fn costs(report: &mut Report, what: &str, cost: Cost, deliveries: usize) {
    let usage = cost.usage;
    let all = micros_each(usage.product(), deliveries);
    let cpu = format!("{what}, CPU per delivery");
    report.judge(
        format!("{cpu}: all processes"),
        "µs",
        all,
        Target::at_most(300.0, 180.0),
    );
    let processes = [
        ("API", usage.api),
        ("worker", usage.worker),
        ("PostgreSQL", usage.postgres),
        ("Redis", usage.redis),
        ("load generator and receiver (not in the sum)", usage.bench),
    ];
    for (process, used) in processes {
        report.add(
            format!("{cpu}: {process}"),
            "µs",
            micros_each(used, deliveries),
        );
    }
    let each = |total: f64| total / deliveries as f64;
    report.add(
        format!("{what}, WAL per delivery"),
        "bytes",
        each(cost.wal_bytes),
    );
    report.add(
        format!("{what}, writing transactions per delivery"),
        "",
        each(cost.writes),
    );
    let sent = format!("{what}, Redis commands per delivery: sent by clients");
    report.add(sent, "", each(cost.commands.sent));
    let all = format!("{what}, Redis commands per delivery: with those that scripts call");
    report.add(all, "", each(cost.commands.all));
}

/// The most memory that API and worker had in use up to now.
fn memory(report: &mut Report, stack: &Stack) -> Result<()> {
    let world = &stack.world;
    for (name, processes) in [("API", &world.apis), ("worker", &world.workers)] {
        for process in processes {
            let peak = cpu::peak_memory_mib(process.pid())?;
            report.add(format!("peak memory: {name}"), "MiB", peak);
        }
    }
    Ok(())
}
