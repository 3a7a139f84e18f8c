//! Replay jobs: releases what a job selects, a batch at a time and at its pace. Discarding and recovering go the same
//! way.
//!
//! Any number of workers may run it. A step takes a job's row with its lock, so that one of them works on a job at a
//! time, and everything that the next step needs is in the row. A job that was cancelled has no next step.

mod missed;
mod pace;
mod walk;

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::{Database, begin_write},
    delivery::{ReplayKind, ReplayStatus},
    ids::ReplayId,
    queue::{Lane, Queue},
    store::replay::{self, Due},
};
use sea_orm::DbErr;

/// How many deliveries one step of a job releases at most.
pub const BATCH: u64 = 500;
/// How many jobs one step looks at.
const JOBS: u64 = 100;
/// While the lane of bulk work holds this many jobs, replays without a pace of their own wait.
const DEEP: u64 = 1_000;
/// How long a replay without a pace of its own rests after a batch: the dispatcher has to come round in between.
const REST: TimeDelta = TimeDelta::milliseconds(100);

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// How many deliveries were released or discarded.
    pub released: u64,
    /// Whether a job can go on at once.
    pub more: bool,
}

/// Gives every job that is due one batch.
///
/// # Errors
/// When the database cannot be reached. A batch is released as a whole or not at all.
pub async fn step(db: &Database, queue: &Queue, now: Timestamp) -> Result<Stepped, DbErr> {
    let mut stepped = Stepped::default();
    let due = replay::due(db, JOBS, now).await?;
    let deep = due.iter().any(waits_for_room) && !has_room(queue).await;
    for job in due {
        if deep && waits_for_room(&job) {
            continue;
        }
        let one = advance(db, job.id, now).await?;
        stepped.released += one.released;
        stepped.more |= one.more;
    }
    Ok(stepped)
}

/// Whether the bulk lane takes more. A queue that does not answer takes nothing; the dispatcher says so in the log.
async fn has_room(queue: &Queue) -> bool {
    queue
        .depth(Lane::Bulk)
        .await
        .is_ok_and(|depth| depth < DEEP)
}

/// Whether a job takes as much as the workers do.
fn waits_for_room(job: &Due) -> bool {
    job.rate_per_s.is_none() && job.kind != ReplayKind::Discard
}

/// What a batch came to.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    released: u64,
    /// How many of them were not among those that the job began with.
    found: u64,
    /// Whether nothing is left to look at.
    complete: bool,
}

/// Releases the next batch of one job, unless another worker is at it.
async fn advance(db: &Database, id: ReplayId, now: Timestamp) -> Result<Stepped, DbErr> {
    let tx = begin_write(db).await?;
    let Some(mut job) = replay::claim(&tx, id, now).await? else {
        return Ok(Stepped::default());
    };
    let allowed = pace::allow(&mut job, now).min(BATCH);
    let batch = match allowed {
        0 => Batch::default(),
        most => walk::release(&tx, &mut job, most, now).await?,
    };
    job.released += count(batch.released);
    // More than were counted: some had just died when the job was made.
    job.total = (job.total + count(batch.found)).max(job.released);
    let idle = allowed > 0 && batch.released == 0;
    job.next_at = match job.rate_per_s {
        _ if batch.complete => None,
        // It has looked at what there is nothing to do about.
        _ if idle => Some(now),
        Some(rate) => Some(pace::next(&job, rate)),
        None if job.kind == ReplayKind::Discard => Some(now),
        None => Some(now + REST),
    };
    if batch.complete {
        job.skipped = job.total - job.released;
        let open = job.released - job.delivered - job.dead;
        if job.kind == ReplayKind::Discard || open == 0 {
            job.status = ReplayStatus::Completed;
            job.finished_at = Some(now);
        }
    }
    let more = job.next_at.is_some_and(|at| at <= now);
    replay::save(&tx, job).await?;
    tx.commit().await?;
    Ok(Stepped {
        released: batch.released,
        more,
    })
}

/// A batch is small.
fn count(of: u64) -> i32 {
    i32::try_from(of).unwrap_or(i32::MAX)
}
