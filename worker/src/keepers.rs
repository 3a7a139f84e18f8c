//! What every worker does beside delivering, again and again: it moves what is due onto the queue, releases what circuits
//! hold back, carries out replay jobs, watches the dead-letter queues and removes what has expired. Each is a step that any
//! number of workers may make at the same time.

use std::{future::Future, time::Duration};

use relaypost_shared::{db, health::LONGEST_TURN};
use tokio::task::JoinSet;

use crate::{
    Services, circuit,
    dispatch::{self, StepError},
    prune, replay, retry, threshold,
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
/// How long pruning rests when nothing is left to remove.
const PRUNE_REST: Duration = Duration::from_secs(60);

/// Starts them all. They end when the set is dropped or shut down; a step that is cut off is made again by another.
pub(crate) fn start(services: &Services) -> JoinSet<()> {
    let mut keepers = JoinSet::new();
    keepers.spawn(keep("dispatch", services, DISPATCH_REST, dispatch));
    keepers.spawn(keep(
        "dispatch overdue deliveries",
        services,
        LEFT_OVER_REST,
        dispatch_left_over,
    ));
    keepers.spawn(keep(
        "release parked deliveries",
        services,
        CONDUCT_REST,
        conduct,
    ));
    keepers.spawn(keep(
        "expire parked deliveries",
        services,
        EXPIRE_REST,
        expire,
    ));
    keepers.spawn(keep(
        "find forgotten circuits",
        services,
        FORGOTTEN_REST,
        find_forgotten,
    ));
    keepers.spawn(keep(
        "carry out replay jobs",
        services,
        REPLAY_REST,
        carry_out_replays,
    ));
    keepers.spawn(keep("count dead letters", services, WATCH_REST, watch));
    keepers.spawn(keep("prune", services, PRUNE_REST, prune));
    keepers
}

/// Makes a step again and again: at once while it says that there is more to do, after `rest` when there is not, and on a
/// growing curve while it fails.
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
    async move {
        let mut waits = retry::infrastructure();
        loop {
            turn.turns();
            let wait = match step(services.clone()).await {
                Ok(more) => {
                    turn.succeeded();
                    waits = retry::infrastructure();
                    if more { Duration::ZERO } else { rest }
                }
                Err(error) => {
                    turn.waits_for_dependency();
                    let wait = waits.next().unwrap_or(rest);
                    tracing::warn!(task, %error, ?wait, "background task failed; retrying");
                    wait
                }
            };
            if wait > Duration::ZERO {
                tokio::time::sleep(wait).await;
            }
        }
    }
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
