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
    delivery::{DeliveryKind, Status},
    entities::delivery,
    ids::{DeliveryId, EndpointId, TenantId},
    queue::{Job, Lane, Queue},
};
use sea_orm::{
    ColumnTrait, DatabaseConnection, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Select,
};

use crate::dispatch::StepError;

/// How many unsettled deliveries one step of the recent walk looks at.
const BATCH: u64 = 2_000;
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

/// The walk over what was accepted lately, from the oldest that is not settled.
#[derive(Clone, Copy, Debug)]
pub struct Recent {
    /// Everything below that this walk has seen is settled.
    floor: DeliveryId,
    cursor: DeliveryId,
    /// The first delivery that this walk found unsettled.
    unsettled: Option<DeliveryId>,
}

impl Recent {
    /// A walk that begins a little before `now`.
    pub fn begin(now: Timestamp) -> Self {
        let floor = DeliveryId::floor(now - REACH);
        Self {
            floor,
            cursor: floor,
            unsettled: None,
        }
    }

    /// Looks at the next deliveries. `now` is the database's time where there is one, so that a worker whose clock is
    /// wrong does not look past them.
    ///
    /// # Errors
    /// When the database or the queue cannot be reached; the same deliveries are looked at again then.
    pub async fn step(
        &mut self,
        db: &DatabaseConnection,
        queue: &Queue,
        now: Timestamp,
    ) -> Result<Found, StepError> {
        let waiting = waiting(db, self.cursor, DeliveryId::floor(now - GRACE)).await?;
        let requeued = requeue(queue, &waiting).await?;
        self.unsettled = self
            .unsettled
            .or(waiting.first().map(|(job, _)| job.delivery));
        let complete = (waiting.len() as u64) < BATCH;
        if complete {
            // One below the unsettled delivery, because a walk begins behind its cursor.
            let below = |id: DeliveryId| {
                DeliveryId::from_uuid(uuid::Uuid::from_u128(id.uuid().as_u128().saturating_sub(1)))
            };
            let settled = DeliveryId::floor(now - REACH);
            let floor = self.unsettled.map_or(settled, |id| below(id).min(settled));
            *self = Self {
                floor: floor.max(self.floor),
                cursor: floor.max(self.floor),
                unsettled: None,
            };
        } else if let Some((last, _)) = waiting.last() {
            self.cursor = last.delivery;
        }
        Ok(Found { requeued, complete })
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
        db: &DatabaseConnection,
        queue: &Queue,
        now: Timestamp,
    ) -> Result<Found, StepError> {
        let rows: Vec<Seen> = Seen::select()
            .apply_if(self.cursor, |rows, cursor| {
                rows.filter(delivery::Column::Id.lt(cursor))
            })
            .order_by_desc(delivery::Column::Id)
            .limit(LOOK)
            .into_model()
            .all(db)
            .await?;
        let complete = (rows.len() as u64) < LOOK;
        let last = rows.last().map(|row| row.id);
        let waiting: Vec<(Job, Lane)> = rows
            .iter()
            .filter(|row| row.waits(now))
            .map(Seen::job)
            .collect();
        let requeued = requeue(queue, &waiting).await?;
        self.cursor = last.filter(|_| !complete);
        Ok(Found { requeued, complete })
    }
}

/// Queues those of the deliveries that have no job, and returns how many there were.
async fn requeue(queue: &Queue, waiting: &[(Job, Lane)]) -> Result<usize, StepError> {
    let mut requeued = 0;
    for lane in Lane::ALL {
        let jobs: Vec<Job> = waiting
            .iter()
            .filter(|(_, of)| *of == lane)
            .map(|(job, _)| *job)
            .collect();
        let missing = queue.missing(lane, &jobs).await?;
        queue.push(lane, &missing).await?;
        requeued += missing.len();
    }
    Ok(requeued)
}

/// What the walks look at.
#[derive(FromQueryResult)]
struct Seen {
    id: DeliveryId,
    tenant_id: TenantId,
    endpoint_id: Option<EndpointId>,
    kind: DeliveryKind,
    status: Status,
    next_attempt_at: Option<Timestamp>,
    dispatch_at: Option<Timestamp>,
    parked_for: Option<uuid::Uuid>,
    replayed_at: Option<Timestamp>,
}

impl Seen {
    fn select() -> Select<delivery::Entity> {
        use delivery::Column::{
            DispatchAt, EndpointId, Id, Kind, NextAttemptAt, ParkedFor, ReplayedAt, Status,
            TenantId,
        };
        delivery::Entity::find().select_only().columns([
            NextAttemptAt,
            Id,
            TenantId,
            EndpointId,
            Kind,
            Status,
            DispatchAt,
            ParkedFor,
            ReplayedAt,
        ])
    }

    /// Whether nothing but its job brings it on its way soon: it was never dispatched, or is claimed. What is parked is
    /// the business of its circuit.
    fn waits(&self, now: Timestamp) -> bool {
        let not_later = self.next_attempt_at.is_none_or(|at| at <= now);
        self.status == Status::Pending
            && self.parked_for.is_none()
            && self.dispatch_at.is_none_or(|at| at > now && not_later)
    }

    fn job(&self) -> (Job, Lane) {
        let job = Job {
            delivery: self.id,
            tenant: self.tenant_id,
            endpoint: self.endpoint_id,
        };
        (job, Lane::of(self.kind, self.replayed_at.is_some()))
    }
}

/// Deliveries between two ids that wait for their first job.
async fn waiting(
    db: &DatabaseConnection,
    after: DeliveryId,
    before: DeliveryId,
) -> Result<Vec<(Job, Lane)>, DbErr> {
    use delivery::Column;
    let rows: Vec<Seen> = Seen::select()
        .filter(Column::Id.gt(after))
        .filter(Column::Id.lt(before))
        .filter(Column::Status.eq(Status::Pending))
        .filter(Column::DispatchAt.is_null())
        .filter(Column::ParkedFor.is_null())
        .order_by_asc(Column::Id)
        .limit(BATCH)
        .into_model()
        .all(db)
        .await?;
    Ok(rows.iter().map(Seen::job).collect())
}
