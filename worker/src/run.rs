//! Starts a worker and stops it again.

use std::{future::Future, sync::Arc, time::Duration};

use apalis::prelude::WorkerBuilder;
use relaypost_shared::{
    clock::Clock,
    ids::RequestId,
    queue::{Consumer, JobBackend, Lane, Queue, QueueError},
    settings::Settings,
};
use sea_orm::DatabaseConnection;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use crate::{
    dispatch,
    pipeline::Pipeline,
    send::{Sender, SetupError},
    sweep::Sweep,
};

/// How long the dispatcher rests when nothing is due.
const DISPATCH_REST: Duration = Duration::from_millis(250);
/// How long the sweep rests after a walk, and between the steps of a walk that finds nothing lost.
const SWEEP_REST: Duration = Duration::from_secs(2);

/// What a worker works with. Clones share it.
#[derive(Clone, Debug)]
pub struct Services {
    /// The database.
    pub db: DatabaseConnection,
    /// The queue.
    pub queue: Queue,
    /// The clock.
    pub clock: Clock,
    /// The settings.
    pub settings: Arc<Settings>,
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

/// Runs until `stop` completes, then finishes what is in flight within the grace period, hands the rest back, and
/// returns.
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
    let mut lanes = JoinSet::new();
    let mut consumers = Vec::new();
    let mut heartbeats = JoinSet::new();
    for lane in Lane::ALL {
        let consumer = Consumer::new(
            &services.queue,
            lane,
            &name,
            slots(&services.settings, lane),
        )?;
        consumers.push(consumer.clone());
        let alive = consumer.clone();
        heartbeats.spawn(async move { alive.keep_alive().await });
        lanes.spawn(work_lane(
            services.clone(),
            sender.clone(),
            consumer,
            name.clone(),
            stopped.clone(),
        ));
    }
    let mut keepers = JoinSet::new();
    keepers.spawn(keep_dispatching(services.clone()));
    keepers.spawn(keep_sweeping(services.clone(), consumers.clone()));
    tracing::info!(worker = %name, "working");
    stop.await;
    tracing::info!(worker = %name, "stopping");
    keepers.shutdown().await;
    // The receivers live in the lanes' tasks; if all have ended there is nobody to tell.
    let _ = stopping.send(true);
    let all = async { while lanes.join_next().await.is_some() {} };
    if timeout(services.settings.shutdown_grace, all)
        .await
        .is_err()
    {
        let in_flight: usize = consumers.iter().map(Consumer::in_flight).sum();
        tracing::warn!(
            in_flight,
            "the grace period is over: what is in flight goes back to the queue"
        );
        lanes.shutdown().await;
    }
    heartbeats.shutdown().await;
    for consumer in &consumers {
        consumer.leave().await;
    }
    Ok(())
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
    services: Services,
    sender: Sender,
    consumer: Consumer,
    name: String,
    mut stopped: watch::Receiver<bool>,
) {
    let schedule = &services.settings.webhooks.retry_schedule.0;
    let pipeline = Pipeline::new(
        services.db.clone(),
        services.clock.clone(),
        sender,
        schedule,
        consumer.clone(),
    );
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
            tokio::time::sleep(DISPATCH_REST).await;
        }
    }
}

async fn keep_dispatching(services: Services) {
    loop {
        match dispatch::step(&services.db, &services.queue, services.clock.now()).await {
            Ok(moved) if moved >= dispatch::BATCH => {}
            Ok(_) => tokio::time::sleep(DISPATCH_REST).await,
            Err(error) => {
                tracing::warn!(%error, "the dispatcher waits");
                tokio::time::sleep(DISPATCH_REST * 4).await;
            }
        }
    }
}

async fn keep_sweeping(services: Services, consumers: Vec<Consumer>) {
    loop {
        match Sweep::begin(&services.db).await {
            Ok(sweep) => sweep_on(&services, &consumers, sweep).await,
            Err(error) => tracing::warn!(%error, "the sweep waits"),
        }
        tokio::time::sleep(SWEEP_REST).await;
    }
}

/// Walks until a fault ends it. A queue that lost its contents is refilled without rests.
async fn sweep_on(services: &Services, consumers: &[Consumer], mut sweep: Sweep) {
    loop {
        match sweep
            .step(&services.db, &services.queue, services.clock.now())
            .await
        {
            Ok(found) if found.requeued > 0 => {
                tracing::info!(jobs = found.requeued, "queued jobs again that were lost");
                if !found.complete {
                    continue;
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the sweep waits");
                return;
            }
        }
        let lost =
            futures::future::select_all(consumers.iter().map(|consumer| Box::pin(consumer.lost())));
        // Either way the next step follows.
        let _ = timeout(SWEEP_REST, lost).await;
    }
}
