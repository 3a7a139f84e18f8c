//! The dispatcher: moves deliveries whose time has come from the database onto the queue.
//!
//! Any number of workers may run it: each claims other deliveries ([`relaypost_shared::store::claim`]), and a claim ends after
//! ten minutes, so that a delivery is found again should its job be lost.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::{self, Database},
    queue::{Job, Lane, Queue, QueueError},
    store::claim,
};
use sea_orm::DbErr;

use crate::retry;

pub(crate) use relaypost_shared::store::claim::Dispatched;

/// How many deliveries one step moves at most.
pub const BATCH: u64 = claim::AT_MOST;
/// How often the release of claims is tried whose answer was lost: for about as long as a claim holds.
const RELEASE_TRIES: usize = 300;
/// What [`step_recent`] looks at: what came due in this time, however seldom it is made and whosever clock is a little off.
const RECENT: TimeDelta = TimeDelta::minutes(1);
/// A lane that already holds this many jobs gets no more: what waits in the database costs nothing, and a job about 200
/// bytes of Redis. The bound is for memory alone. It has to be far above the backlog of one endpoint, which waits in a
/// line of its own and must not keep the jobs of the others out of the queue.
pub const FULL: u64 = 500_000;

/// A step of the dispatcher, or of the sweep, did not get through. Everything stays where it was.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Moves one batch of due deliveries onto the queue and returns how many there were.
///
/// # Errors
/// When the database or the queue cannot be reached; nothing is lost then.
pub async fn step(db: &Database, queue: &Queue, now: Timestamp) -> Result<u64, StepError> {
    step_since(db, queue, Timestamp::UNIX_EPOCH, now).await
}

/// [`step`] for what has come due in the last minute, which is nearly everything. PostgreSQL keeps the places of what was
/// claimed before in the index until the next vacuum, and a look at everything passes by them all.
///
/// # Errors
/// As [`step`].
pub async fn step_recent(db: &Database, queue: &Queue, now: Timestamp) -> Result<u64, StepError> {
    step_since(db, queue, now - RECENT, now).await
}

async fn step_since(
    db: &Database,
    queue: &Queue,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StepError> {
    let mut moved = 0;
    for lane in Lane::ALL {
        if queue.depth(lane).await? >= FULL {
            continue;
        }
        let claimed = claim::due(db, lane, since, now).await;
        let jobs = claimed.inspect_err(|error| claims_may_be_lost(db, error, now))?;
        if jobs.is_empty() {
            continue;
        }
        push_claimed(db, queue, lane, &jobs, now).await?;
        moved += jobs.len() as u64;
    }
    Ok(moved)
}

/// Puts deliveries that were released or are due at once onto their queues. What cannot be put there is left to the next
/// step.
pub(crate) async fn push(
    db: &Database,
    queue: &Queue,
    dispatched: &[Dispatched],
    now: Timestamp,
) -> Result<(), StepError> {
    for lane in Lane::ALL {
        let of_lane = dispatched.iter().filter(|one| one.lane == lane);
        let jobs: Vec<Job> = of_lane.map(|one| one.job).collect();
        if !jobs.is_empty() {
            push_claimed(db, queue, lane, &jobs, now).await?;
        }
    }
    Ok(())
}

/// Queues what is claimed, or takes the claim back.
async fn push_claimed(
    db: &Database,
    queue: &Queue,
    lane: Lane,
    jobs: &[Job],
    now: Timestamp,
) -> Result<(), StepError> {
    if let Err(error) = queue.push(lane, jobs).await {
        if let Err(error) = claim::give_back(db, jobs, now).await {
            tokio::spawn(release_claims(db.clone(), now));
            return Err(error.into());
        }
        return Err(error.into());
    }
    Ok(())
}

/// To be called when deliveries were claimed at `now` and the answer did not come. If the claim was committed, nobody knows
/// which deliveries it took, and they would wait until it ends. So everything that carries it is made due again, as soon
/// as the database answers.
pub(crate) fn claims_may_be_lost(db: &Database, error: &DbErr, now: Timestamp) {
    if db::is_outcome_unknown(error) {
        tokio::spawn(release_claims(db.clone(), now));
    }
}

async fn release_claims(db: Database, now: Timestamp) {
    let tries = retry::infrastructure().take(RELEASE_TRIES);
    for wait in tries {
        tokio::time::sleep(wait).await;
        match claim::release_lost(&db, now).await {
            Ok(0) => return,
            Ok(deliveries) => {
                tracing::info!(deliveries, "released claims whose answer was lost");
                return;
            }
            Err(error) => tracing::debug!(%error, "claims cannot be released yet"),
        }
    }
}
