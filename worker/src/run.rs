//! Starts a worker and stops it again.

use std::{future::Future, sync::Arc, time::Duration};

use relaypost_shared::{
    clock::Clock,
    db::{self, Database},
    health::{Health, LONGEST_TURN, Loop, Tables},
    ids::RequestId,
    queue::{Consumer, Lane, Queue, QueueError},
    settings::Settings,
};
use tokio::{task::JoinSet, time::timeout};

use crate::{
    background,
    handover::Cutoff,
    lanes::{LaneParts, Lanes},
    pipeline::Pipeline,
    restart::keep_running,
    send::{Sender, SetupError},
};

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
    let hot = db::hot(&services.db);
    let cutoff = Cutoff::default();
    services
        .health
        .watch_pool(&hot, Tables::Deliveries, Vec::new());
    let loops = services.health.loops();
    let (mut parts, mut consumers) = (Vec::new(), Vec::new());
    let mut heartbeats = JoinSet::new();
    for lane in Lane::ALL {
        let consumer = Consumer::new(
            &services.queue,
            lane,
            &name,
            slots(&services.settings, lane),
            Some(services.settings.webhooks.max_in_flight),
        )?;
        let fetches = loops.add(format!("fetch {}", lane.name()), LONGEST_TURN);
        let beats = loops.add(format!("heartbeat {}", lane.name()), LONGEST_TURN);
        consumer.report_to(fetches.clone(), beats.clone());
        let pipeline = Pipeline::new(
            &services,
            &hot,
            sender.clone(),
            consumer.clone(),
            cutoff.clone(),
        );
        services
            .health
            .watch_lane(fetches.clone(), pipeline.stages());
        heartbeats.spawn(keep_alive(beats, consumer.clone()));
        consumers.push(consumer.clone());
        parts.push(LaneParts {
            pipeline,
            consumer,
            fetches,
        });
    }
    let lanes = Lanes::start(&name, parts);
    let mut background = background::start(&services, consumers.clone());
    tracing::info!(worker = %name, "working");
    stop.await;
    tracing::info!(worker = %name, "stopping");
    // It takes no more work from here on. The delay is for those who look at its port.
    let delay = services.health.stop(services.settings.shutdown_delay);
    let drained = async {
        background.shutdown().await;
        finish(&services.settings, lanes, &consumers, &cutoff).await;
        heartbeats.shutdown().await;
        for consumer in &consumers {
            consumer.leave().await;
        }
    };
    tokio::join!(delay, drained);
    Ok(())
}

/// Says that this worker lives for as long as anything is in flight: even a panic ends that only for a moment.
async fn keep_alive(beats: Loop, consumer: Consumer) {
    let step = || async {
        consumer.keep_alive().await;
        Ok(false)
    };
    keep_running(beats, Duration::ZERO, step).await;
}

/// Lets the lanes finish what is in flight within the grace period.
async fn finish(settings: &Settings, mut lanes: Lanes, consumers: &[Consumer], cutoff: &Cutoff) {
    if timeout(settings.shutdown_grace, lanes.drain())
        .await
        .is_err()
    {
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
        lanes.cut_off().await;
    }
}

fn slots(settings: &Settings, lane: Lane) -> usize {
    match lane {
        Lane::Webhooks => settings.webhooks.concurrency,
        Lane::Emails => settings.emails.concurrency,
        Lane::Bulk => settings.bulk_concurrency,
    }
}
