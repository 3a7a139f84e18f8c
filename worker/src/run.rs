//! Starts a worker and stops it again.

use std::{future::Future, sync::Arc, time::Duration};

use apalis::prelude::WorkerBuilder;
use relaypost_shared::{
    clock::Clock,
    db::{self, Database},
    health::{Health, LONGEST_TURN, Loop, Tables},
    ids::RequestId,
    queue::{Consumer, JobBackend, Lane, Queue, QueueError},
    settings::Settings,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    dispatch::StepError,
    handover::Cutoff,
    keepers,
    pipeline::Pipeline,
    retry,
    send::{Sender, SetupError},
    sweep::{Full, Recent},
};

/// How long a lane rests whose worker has ended by itself.
const LANE_REST: Duration = Duration::from_millis(250);
/// How long the recent walk rests between its steps.
const SWEEP_REST: Duration = Duration::from_secs(2);
/// How long the full walk rests between its steps: it looks at half a million deliveries a second at most.
const FULL_PACE: Duration = Duration::from_millis(10);
/// How often the full walk is made.
const FULL_EVERY: Duration = Duration::from_secs(600);
/// How long recording may take, at the end of the grace period, what waited for a mail server's answer. What is not recorded
/// by then is found by the marks of its rows.
const RECORDING: Duration = Duration::from_secs(2);

/// What a worker works with. Clones share it.
#[derive(Clone, Debug)]
pub struct Services {
    /// The database.
    pub db: Database,
    /// The queue.
    pub queue: Queue,
    /// The clock.
    pub clock: Clock,
    /// The settings.
    pub settings: Arc<Settings>,
    /// How the process is doing.
    pub health: Health,
}

/// A worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing can be sent.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The queue's address is wrong.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Runs until `stop` completes, then finishes what is in flight within the grace period and returns. At the end of that, a
/// mail that waits for the mail server's answer to its content is recorded as uncertain; the rest is handed back.
///
/// # Errors
/// When it cannot start. Once it runs, no fault of the database or the queue ends it.
pub async fn run(services: Services, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let sender = Sender::new(&services.settings, services.clock.clone())?;
    // New at every start: a worker's name must not be taken for that of its predecessor, whose jobs are handed back.
    let name = RequestId::generate(services.clock.now())
        .to_string()
        .replace("req_", "worker_");
    let (stopping, stopped) = watch::channel(false);
    let hot = db::hot(&services.db);
    let cutoff = Cutoff::default();
    services
        .health
        .watch_pool(&hot, Tables::Deliveries, Vec::new());
    let loops = services.health.loops();
    let mut lanes = JoinSet::new();
    let mut consumers = Vec::new();
    let mut heartbeats = JoinSet::new();
    for lane in Lane::ALL {
        let consumer = Consumer::new(
            &services.queue,
            lane,
            &name,
            slots(&services.settings, lane),
            Some(services.settings.webhooks.max_in_flight),
        )?;
        consumers.push(consumer.clone());
        let fetches = loops.add(format!("fetch {}", lane.name()), LONGEST_TURN);
        let beats = loops.add(format!("heartbeat {}", lane.name()), LONGEST_TURN);
        consumer.report_to(fetches.clone(), beats);
        let pipeline = Pipeline::new(
            &services,
            &hot,
            sender.clone(),
            consumer.clone(),
            cutoff.clone(),
        );
        services.health.watch_lane(fetches, pipeline.stages());
        let alive = consumer.clone();
        heartbeats.spawn(async move { alive.keep_alive().await });
        lanes.spawn(work_lane(pipeline, consumer, name.clone(), stopped.clone()));
    }
    let mut keepers = keepers::start(&services);
    let sweeps = loops.add("sweep", LONGEST_TURN);
    keepers.spawn(keep_sweeping(services.clone(), consumers.clone(), sweeps));
    tracing::info!(worker = %name, "working");
    stop.await;
    tracing::info!(worker = %name, "stopping");
    // It takes no more work from here on. The delay is for those who look at its port.
    let delay = services.health.stop(services.settings.shutdown_delay);
    let drained = async {
        keepers.shutdown().await;
        finish(&services.settings, &stopping, lanes, &consumers, &cutoff).await;
        heartbeats.shutdown().await;
        for consumer in &consumers {
            consumer.leave().await;
        }
    };
    tokio::join!(delay, drained);
    Ok(())
}

/// Lets the lanes finish what is in flight within the grace period.
async fn finish(
    settings: &Settings,
    stopping: &watch::Sender<bool>,
    mut lanes: JoinSet<()>,
    consumers: &[Consumer],
    cutoff: &Cutoff,
) {
    // The receivers live in the lanes' tasks; if all have ended there is nobody to tell.
    let _ = stopping.send(true);
    let all = async { while lanes.join_next().await.is_some() {} };
    if timeout(settings.shutdown_grace, all).await.is_err() {
        let in_flight: usize = consumers.iter().map(Consumer::in_flight).sum();
        tracing::warn!(
            in_flight,
            "the grace period is over: mails that wait for an answer are uncertain, the rest goes back to the queue"
        );
        cutoff.reach();
        if timeout(RECORDING, cutoff.recorded()).await.is_err() {
            tracing::warn!(
                "mails that wait for an answer cannot be recorded as uncertain; their marks remain"
            );
        }
        lanes.shutdown().await;
    }
}

fn slots(settings: &Settings, lane: Lane) -> usize {
    match lane {
        Lane::Webhooks => settings.webhooks.concurrency,
        Lane::Emails => settings.emails.concurrency,
        Lane::Bulk => settings.bulk_concurrency,
    }
}

/// Runs apalis's worker on one lane. Should it ever end by itself, it is started again.
async fn work_lane(
    pipeline: Pipeline,
    consumer: Consumer,
    name: String,
    mut stopped: watch::Receiver<bool>,
) {
    while !*stopped.borrow_and_update() {
        let pipeline = pipeline.clone();
        let worker = WorkerBuilder::new(format!("{name}-{}", consumer.lane().name()))
            .backend(JobBackend::new(consumer.clone()))
            .build(move |job| {
                let pipeline = pipeline.clone();
                async move { pipeline.work(job).await }
            });
        let mut signal = stopped.clone();
        let until = async move {
            // An error means that the sender is gone, which is as good as being told to stop.
            let _ = signal.wait_for(|stopping| *stopping).await;
            Ok::<(), std::io::Error>(())
        };
        if let Err(error) = worker.run_until(until).await {
            tracing::error!(%error, lane = consumer.lane().name(), "the lane's worker ended and starts again");
            tokio::time::sleep(LANE_REST).await;
        }
    }
}

async fn keep_sweeping(services: Services, consumers: Vec<Consumer>, turn: Loop) {
    let mut waits = retry::infrastructure();
    loop {
        let began = Instant::now();
        let Err(error) = sweep(&services, &consumers, &turn).await else {
            continue;
        };
        turn.waits_for_dependency();
        tracing::warn!(%error, "sweep failed; retrying");
        if began.elapsed() > SWEEP_REST {
            // It had worked for a while.
            waits = retry::infrastructure();
        }
        tokio::time::sleep(waits.next().unwrap_or(SWEEP_REST)).await;
    }
}

/// One full walk beside the recent one, then the recent one alone until the next full walk is due: after a while, or
/// when a queue turned out to have lost its contents.
async fn sweep(services: &Services, consumers: &[Consumer], turn: &Loop) -> Result<(), StepError> {
    let (db, queue) = (&services.db, &services.queue);
    let mut recent = Recent::begin(db::now(db, &services.clock).await?);
    let mut full = Full::default();
    let (mut walking, mut last_full) = (true, Instant::now());
    let mut looked = Instant::now();
    loop {
        let mut requeued = 0;
        if walking {
            let found = full
                .step(db, queue, db::now(db, &services.clock).await?)
                .await?;
            (walking, requeued) = (!found.complete, found.requeued);
            last_full = Instant::now();
        }
        if !walking || looked.elapsed() >= SWEEP_REST {
            requeued += recent
                .step(db, queue, db::now(db, &services.clock).await?)
                .await?
                .requeued;
            looked = Instant::now();
        }
        turn.succeeded();
        if requeued > 0 {
            tracing::info!(jobs = requeued, "queued jobs again that were lost");
        }
        let rest = if walking { FULL_PACE } else { SWEEP_REST };
        let lost = consumers.iter().map(|consumer| Box::pin(consumer.lost()));
        let lost = timeout(rest, futures::future::select_all(lost))
            .await
            .is_ok();
        if lost || last_full.elapsed() >= FULL_EVERY {
            (full, walking) = (Full::default(), true);
        }
    }
}
