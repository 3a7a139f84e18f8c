//! The sweep: finds deliveries whose first job was lost, and queues them again.
//!
//! A delivery's first job is pushed after the commit, and nothing vouches for it: the API may die in between, Redis may
//! be down, be flushed, or come back from an old snapshot. So the sweep walks over what was accepted and is not settled,
//! and asks the queue about it. It costs bounded reads and writes nothing. Later attempts are the dispatcher's, and the
//! full walk looks for the jobs of those that it has claimed.
//!
//! Two walks share the work. [`Recent`] follows the newest deliveries every few seconds; it goes by the time in their
//! ids, so it misses what an API with a slow clock accepted, or a transaction that took minutes to commit. [`Full`]
//! trusts no clock: it looks at every delivery, the newest first, when a worker starts, when a queue was lost, and now
//! and then.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::Database,
    ids::DeliveryId,
    queue::{Job, Lane, Queue},
    store::find_lost::{Part, new_among, new_between},
};

use crate::dispatch::{Dispatched, StepError};

/// How many unsettled deliveries one step of the recent walk looks at.
const BATCH: u64 = 2_000;
/// How many unsettled deliveries below its floor the recent walk remembers.
const LEFT: usize = 2_000;
/// How many deliveries, settled or not, one step of the full walk looks at.
const LOOK: u64 = 5_000;
/// Younger deliveries are left alone by the recent walk: their push is on its way.
const GRACE: TimeDelta = TimeDelta::seconds(5);
/// How far the recent walk reaches back at least, for transactions that commit late and clocks that differ a little.
const REACH: TimeDelta = TimeDelta::seconds(60);

/// What one step found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many lost jobs were queued again.
    pub requeued: usize,
    /// Whether the walk is at its end; the next step begins a new one.
    pub complete: bool,
}

/// The walk over what was accepted lately. What it finds unsettled it asks about until it is settled, however long that
/// takes: by its id once it is no longer new, so that one delivery that waits for an hour does not make every walk an
/// hour long.
#[derive(Clone, Debug)]
pub struct Recent {
    /// Everything below that this walk has seen is settled, but for `left`.
    floor: DeliveryId,
    cursor: DeliveryId,
    /// What the last walk found unsettled below the floor.
    left: Vec<DeliveryId>,
    /// The oldest that this walk has found unsettled, and one more than can be left.
    unsettled: Vec<DeliveryId>,
}

impl Recent {
    /// A walk that begins a little before `now`.
    pub fn begin(now: Timestamp) -> Self {
        let floor = DeliveryId::floor(now - REACH);
        Self {
            floor,
            cursor: floor,
            left: Vec::new(),
            unsettled: Vec::new(),
        }
    }

    /// Looks at the next deliveries. `now` is the database's time where there is one, so that a worker whose clock is
    /// wrong does not look past them.
    ///
    /// # Errors
    /// When the database or the queue cannot be reached; the same deliveries are looked at again then.
    pub async fn step(
        &mut self,
        db: &Database,
        queue: &Queue,
        now: Timestamp,
    ) -> Result<Found, StepError> {
        let mut waiting = if self.cursor == self.floor {
            new_among(db, &self.left).await?
        } else {
            Vec::new()
        };
        let before = DeliveryId::floor(now - GRACE);
        let next = new_between(db, self.cursor, before, BATCH).await?;
        let complete = (next.len() as u64) < BATCH;
        let last = next.last().map(|one| one.job.delivery);
        waiting.extend(next);
        let requeued = requeue(queue, &waiting).await?;
        let room = (LEFT + 1).saturating_sub(self.unsettled.len());
        let unsettled = waiting.iter().map(|one| one.job.delivery);
        self.unsettled.extend(unsettled.take(room));
        if complete {
            self.begin_again(now);
        } else if let Some(last) = last {
            self.cursor = last;
        }
        Ok(Found { requeued, complete })
    }

    fn begin_again(&mut self, now: Timestamp) {
        // One below, because a walk begins behind its cursor.
        let below = |id: &DeliveryId| {
            DeliveryId::from_uuid(uuid::Uuid::from_u128(id.uuid().as_u128().saturating_sub(1)))
        };
        let new = DeliveryId::floor(now - REACH);
        let too_many = self.unsettled.get(LEFT).map(below);
        let floor = too_many.map_or(new, |id| id.min(new)).max(self.floor);
        let mut left = std::mem::take(&mut self.unsettled);
        left.retain(|id| *id <= floor);
        *self = Self {
            floor,
            cursor: floor,
            left,
            unsettled: Vec::new(),
        };
    }
}

/// The walk over everything, the newest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Full {
    cursor: Option<DeliveryId>,
}

impl Full {
    /// Looks at the next deliveries.
    ///
    /// # Errors
    /// When the database or the queue cannot be reached; the same deliveries are looked at again then.
    pub async fn step(
        &mut self,
        db: &Database,
        queue: &Queue,
        now: Timestamp,
    ) -> Result<Found, StepError> {
        let part = Part::next(db, self.cursor, LOOK).await?;
        let waiting = part.waiting(db, now).await?;
        let requeued = requeue(queue, &waiting).await?;
        self.cursor = part.last();
        let complete = self.cursor.is_none();
        Ok(Found { requeued, complete })
    }
}

/// Queues those of the deliveries that have no job, and returns how many there were.
async fn requeue(queue: &Queue, waiting: &[Dispatched]) -> Result<usize, StepError> {
    let mut requeued = 0;
    for lane in Lane::ALL {
        let jobs: Vec<Job> = waiting
            .iter()
            .filter(|one| one.lane == lane)
            .map(|one| one.job)
            .collect();
        let missing = queue.missing(lane, &jobs).await?;
        queue.push(lane, &missing).await?;
        requeued += missing.len();
    }
    Ok(requeued)
}
