//! One of two workers is killed under load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use relaypost_testkit::Reply;
use tokio::time::{Instant, interval, sleep};

use crate::{
    Bench, DEADLINE,
    load::{Connection, Request},
    report::Target,
    stack::{Sink, Stack},
};

/// Connections that publish, and the messages a second of each.
const PUBLISHERS: usize = 16;
const EACH_PER_SECOND: u32 = 32;
/// What the receiver takes for an answer, so that each worker has something under way when it dies.
const ANSWER: Duration = Duration::from_millis(100);

/// About 500 messages a second, until a worker is killed with SIGKILL. The load ends at that moment too, so that the time
/// says how long the rest takes and not how much was piled up.
pub(crate) async fn kill(bench: &mut Bench) -> Result<()> {
    let mut stack = Stack::start(&bench.bin_dir, 2).await?;
    let tenant = stack.world.tenant("recovery").await;
    let sink = Sink::start(1).await;
    sink.receiver
        .respond(Reply::After(ANSWER, Box::new(Reply::Status(200))));
    tenant
        .endpoint(&sink.receiver.url("/hook"), &["bench"])
        .await;

    let request = Request::publish(&tenant.api)?;
    let stop = Arc::new(AtomicBool::new(false));
    let publishers = (0..PUBLISHERS).map(|_| {
        let (request, stop) = (request.clone(), stop.clone());
        tokio::spawn(publisher(request, stop))
    });
    let publishers: Vec<_> = publishers.collect();
    sleep(Duration::from_secs(bench.sizes.recovery_seconds)).await;

    let killed = stack.world.workers.pop().context("two workers")?;
    let began = Instant::now();
    killed.kill9();
    stop.store(true, Ordering::Relaxed);
    let mut accepted = 0;
    for published in try_join_all(publishers).await? {
        accepted += published?;
    }
    sink.receiver.wait_for_distinct(accepted, DEADLINE).await;
    let arrived = began.elapsed();
    stack.postgres.settled(DEADLINE).await?;
    let settled = began.elapsed();
    let what = "kill -9 of one of two workers at 500/s";
    let report = &mut bench.report;
    let bound = Target::at_most(15.0, 5.0);
    report.judge(
        format!("{what}: all accepted messages at the receiver"),
        "s",
        arrived.as_secs_f64(),
        bound,
    );
    report.judge(
        format!("{what}: all recorded as delivered"),
        "s",
        settled.as_secs_f64(),
        bound,
    );
    let again = sink.receiver.count() - accepted;
    report.add(format!("{what}: sent twice"), "deliveries", again as f64);
    drop(killed);
    stack.stop().await
}

/// Publishes at a steady pace until told to stop, and returns how many messages were accepted.
async fn publisher(request: Request, stop: Arc<AtomicBool>) -> Result<usize> {
    let mut connection = Connection::open(&request).await?;
    let mut beats = interval(Duration::from_secs(1) / EACH_PER_SECOND);
    let mut accepted = 0;
    loop {
        beats.tick().await;
        if stop.load(Ordering::Relaxed) {
            return Ok(accepted);
        }
        connection.send(&request).await?;
        accepted += 1;
    }
}
