//! The background loops of every worker. They move what is due onto the queue, release what circuits hold back, carry out
//! replay jobs, watch the dead-letter queues, make partitions ahead, remove what has expired, and look for jobs that a queue has lost. Each makes
//! steps that any number of workers may make at the same time, and is started again when it fails or panics.

use std::time::Duration;

use relaypost_shared::{
    db,
    health::{LONGEST_TURN, Loop},
    queue::Consumer,
    store::partitions,
};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{
    Services, circuit,
    dispatch::{self, StepError},
    prune, replay,
    restart::keep_running,
    sweep::{Full, Recent},
    threshold,
};

/// How long the dispatcher rests when nothing is due.
const DISPATCH_REST: Duration = Duration::from_millis(250);
/// How long it rests when nothing is due that was left over: because no dispatcher could reach the queue, say.
const LEFT_OVER_REST: Duration = Duration::from_secs(5);
/// How long the conductor rests when no circuit is due.
const CONDUCT_REST: Duration = Duration::from_millis(125);
/// How often what is held back is looked at for what has expired.
const EXPIRE_REST: Duration = Duration::from_secs(1);
/// How often circuits are looked for that hold something back and have been forgotten.
const FORGOTTEN_REST: Duration = Duration::from_secs(30);
/// How long replay jobs rest between two steps: no longer than the shortest step of a pace.
const REPLAY_REST: Duration = Duration::from_millis(100);
/// How often the sizes of the dead-letter queues are looked at.
const WATCH_REST: Duration = Duration::from_secs(10);
/// How often partitions are made ahead.
const PARTITION_REST: Duration = Duration::from_secs(600);
/// How long pruning rests when nothing is left to remove.
const PRUNE_REST: Duration = Duration::from_secs(60);
/// How long the recent walk of the sweep rests between its steps.
const SWEEP_REST: Duration = Duration::from_secs(2);
/// How long the full walk rests between its steps: it looks at half a million deliveries a second at most.
const FULL_PACE: Duration = Duration::from_millis(10);
/// How often the full walk is made.
const FULL_EVERY: Duration = Duration::from_secs(600);

/// Starts them all; `consumers` say when a queue has lost its contents. They end when the set is dropped or shut down; a
/// step that is cut off is made again by another worker.
pub(crate) fn start(services: &Services, consumers: Vec<Consumer>) -> JoinSet<()> {
    let mut loops = JoinSet::new();
    loops.spawn(keep("dispatch", services, DISPATCH_REST, dispatch));
    loops.spawn(keep(
        "dispatch overdue deliveries",
        services,
        LEFT_OVER_REST,
        dispatch_left_over,
    ));
    loops.spawn(keep(
        "release parked deliveries",
        services,
        CONDUCT_REST,
        conduct,
    ));
    loops.spawn(keep(
        "expire parked deliveries",
        services,
        EXPIRE_REST,
        expire,
    ));
    loops.spawn(keep(
        "find forgotten circuits",
        services,
        FORGOTTEN_REST,
        find_forgotten,
    ));
    loops.spawn(keep(
        "carry out replay jobs",
        services,
        REPLAY_REST,
        carry_out_replays,
    ));
    loops.spawn(keep("count dead letters", services, WATCH_REST, watch));
    loops.spawn(keep(
        "make partitions ahead",
        services,
        PARTITION_REST,
        partition,
    ));
    loops.spawn(keep("prune", services, PRUNE_REST, prune));
    let (services, turn) = (
        services.clone(),
        services.health.loops().add("sweep", LONGEST_TURN),
    );
    loops.spawn(async move {
        keep_running(turn.clone(), SWEEP_REST, || {
            sweep(&services, &consumers, &turn)
        })
        .await;
    });
    loops
}

/// A loop that makes this step.
fn keep<F>(
    task: &'static str,
    services: &Services,
    rest: Duration,
    step: impl Fn(Services) -> F + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static
where
    F: Future<Output = Result<bool, StepError>> + Send,
{
    let services = services.clone();
    let turn = services.health.loops().add(task, rest + LONGEST_TURN);
    async move { keep_running(turn, rest, move || step(services.clone())).await }
}

async fn partition(services: Services) -> Result<bool, StepError> {
    let Services { db, clock, .. } = &services;
    partitions::step(db, clock).await?;
    Ok(false)
}

async fn dispatch(services: Services) -> Result<bool, StepError> {
    let Services {
        db, queue, clock, ..
    } = &services;
    Ok(dispatch::step_recent(db, queue, clock.now()).await? >= dispatch::BATCH)
}

async fn dispatch_left_over(services: Services) -> Result<bool, StepError> {
    let Services {
        db, queue, clock, ..
    } = &services;
    Ok(dispatch::step(db, queue, clock.now()).await? >= dispatch::BATCH)
}

async fn conduct(services: Services) -> Result<bool, StepError> {
    let Services {
        db,
        queue,
        clock,
        settings,
        ..
    } = &services;
    Ok(circuit::step(db, queue, settings, clock.now()).await? >= circuit::BATCH)
}

async fn expire(services: Services) -> Result<bool, StepError> {
    let now = services.clock.now();
    Ok(circuit::expire(&services.db, &services.queue, now).await? > 0)
}

async fn find_forgotten(services: Services) -> Result<bool, StepError> {
    let circuits = circuit::find_forgotten(&services.db, services.clock.now()).await?;
    if circuits > 0 {
        tracing::warn!(circuits, "woke circuits that nobody looked at");
    }
    Ok(false)
}

async fn carry_out_replays(services: Services) -> Result<bool, StepError> {
    let db = &services.db;
    // The time of the whole fleet: a worker whose clock is ahead would be ahead of the pace.
    let now = db::now(db, &services.clock).await?;
    Ok(replay::step(db, &services.queue, now).await?.more)
}

async fn watch(services: Services) -> Result<bool, StepError> {
    let threshold = services.settings.dlq_threshold;
    threshold::step(
        &services.db,
        &services.queue,
        threshold,
        services.clock.now(),
    )
    .await?;
    Ok(false)
}

async fn prune(services: Services) -> Result<bool, StepError> {
    let removed = prune::step(&services.db, services.clock.now()).await?;
    Ok(removed >= prune::BATCH)
}

/// One full walk beside the recent one, then the recent one alone until the next full walk is due: after a while, or
/// when a queue turned out to have lost its contents. Only a failure ends it.
async fn sweep(
    services: &Services,
    consumers: &[Consumer],
    turn: &Loop,
) -> Result<bool, StepError> {
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
