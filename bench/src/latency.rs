//! How long a message takes from its POST to its endpoint.

use std::time::Duration;

use anyhow::{Result, ensure};
use relaypost_testkit::{Reply, World, eventually};

use crate::{
    Bench, DEADLINE,
    report::Target,
    stack::{Stack, options},
    steady::{self, Times, quantile, receiver},
};

/// Messages a second of steady traffic.
pub(crate) const STEADY: u64 = 50;

/// Steady traffic with nothing else going on; one worker.
pub(crate) async fn steady_traffic(bench: &mut Bench) -> Result<()> {
    let stack = Stack::start(&bench.bin_dir, 1).await?;
    let tenant = stack.world.tenant("steady").await;
    let times = Times::default();
    let receiver = receiver(&times).await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    // The first second warms up: connections are made, and nothing is cached yet.
    let count = (bench.sizes.steady_seconds + 1) * STEADY;
    steady::publish(&tenant, &times, 0, count, STEADY, |_| "bench".to_owned()).await?;
    receiver.wait_for(usize::try_from(count)?, DEADLINE).await;
    let latencies = times.of(STEADY..count);
    ensure!(
        latencies.len() as u64 == count - STEADY,
        "a message has not arrived"
    );
    let what = format!("POST to receipt at {STEADY}/s");
    let (p50, p99) = (quantile(&latencies, 0.5), quantile(&latencies, 0.99));
    bench
        .report
        .judge(format!("{what}, p50"), "ms", p50, Target::at_most(4.0, 2.5));
    bench.report.judge(
        format!("{what}, p99"),
        "ms",
        p99,
        Target::at_most(10.0, 6.0),
    );
    stack.stop().await
}

/// Two workers and five endpoints, one of which hangs.
pub(crate) async fn hanging(bench: &mut Bench) -> Result<()> {
    let world = World::start(options(&bench.bin_dir).workers(2)).await;
    let (before, beside) = isolation(&world, bench.sizes.hanging_seconds).await?;
    let [before, beside] = [before, beside].map(|latencies| quantile(&latencies, 0.99));
    let report = &mut bench.report;
    report.add(
        "five endpoints at 50/s, all healthy: p99 of four",
        "ms",
        before,
    );
    report.add("one of the five hangs: p99 of the other four", "ms", beside);
    world.stop().await;
    Ok(())
}

/// Five endpoints at 50 messages a second in total; then the last of them hangs. The latencies of the other four, before
/// and then.
pub(crate) async fn isolation(
    world: &World,
    seconds: u64,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let tenant = world.tenant("isolation").await;
    let times = Times::default();
    let mut receivers = Vec::new();
    for index in 0..5 {
        let receiver = receiver(&times).await;
        let name = format!("endpoint.{index}");
        tenant.endpoint(&receiver.url("/"), &[&name]).await;
        receivers.push(receiver);
    }
    let name = |number: u64| format!("endpoint.{}", number % 5);
    let count = seconds * STEADY;
    // One second to warm up.
    let first = STEADY;
    steady::publish(&tenant, &times, 0, first + count, STEADY, name).await?;
    receivers[4].respond(Reply::Hang);
    steady::publish(&tenant, &times, first + count, count, STEADY, name).await?;
    let healthy = |from: u64| (from..from + count).filter(|number| number % 5 != 4);
    let arrived = eventually(DEADLINE, || async {
        let latencies = times.of(healthy(first + count));
        let expected = healthy(first + count).count();
        if latencies.len() == expected {
            Ok(latencies)
        } else {
            Err(latencies.len().to_string())
        }
    })
    .await;
    let before = times.of(healthy(first));
    receivers[4].release();
    Ok((before, arrived))
}
