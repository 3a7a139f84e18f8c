//! How much work waits in each lane, for those who decide how many workers run.
//!
//! Each figure is counted over a bounded number of rows and flows, so that the answer costs the same whatever is stored.

use sea_orm::DbErr;
use serde::Serialize;

use crate::{
    clock::Timestamp,
    db::Database,
    queue::{Lane, Queue, QueueError, Startable},
    store::backlog,
};

/// The work of one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LaneWork {
    /// Everything that is queued, due or held back.
    pub backlog: u64,
    /// What a worker could start now: without what waits for its endpoint's rate, cap, circuit, pause or turn.
    pub due_now: u64,
    /// For how long the oldest of it has been due, in seconds.
    pub oldest_due_age_s: f64,
}

/// The work of every lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Work {
    /// Live webhooks.
    pub webhooks: LaneWork,
    /// Live emails.
    pub emails: LaneWork,
    /// Replays of either kind.
    pub bulk: LaneWork,
}

/// The work cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Work {
    /// The work at `now`, by the database's clock where it has one. `default_cap` is how many deliveries may be under way to
    /// an endpoint that says nothing about it.
    ///
    /// # Errors
    /// When the database or the queue cannot be reached.
    pub async fn at(
        db: &Database,
        queue: &Queue,
        now: Timestamp,
        default_cap: u32,
    ) -> Result<Self, WorkError> {
        let (due, parked) = (backlog::due(db, now).await?, backlog::parked(db).await?);
        let mut work = Self::default();
        for lane in Lane::ALL {
            let queued = queue.startable(lane, Some(default_cap)).await?;
            let queued_since = backlog::due_since(db, &queued.heads).await?;
            let (count, since) = due.of(lane);
            let oldest = [queued_since, since].into_iter().flatten().min();
            *work.of(lane) = lane_work(&queued, count, parked.of(lane).0, oldest, now);
        }
        Ok(work)
    }

    fn of(&mut self, lane: Lane) -> &mut LaneWork {
        match lane {
            Lane::Webhooks => &mut self.webhooks,
            Lane::Emails => &mut self.emails,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

fn lane_work(
    queued: &Startable,
    due: u64,
    parked: u64,
    oldest: Option<Timestamp>,
    now: Timestamp,
) -> LaneWork {
    let age = oldest.map(|since| (now - since).num_milliseconds().max(0));
    // Milliseconds of any age that occurs are exact as a float.
    let age = age.and_then(|ms| u32::try_from(ms / 100).ok());
    LaneWork {
        backlog: queued.depth + due + parked,
        due_now: queued.startable + due,
        oldest_due_age_s: age.map_or(0.0, |tenths| f64::from(tenths) / 10.0),
    }
}
