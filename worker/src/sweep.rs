//! The sweep: finds deliveries whose first job was lost, and queues them again.
//!
//! A delivery's first job is pushed after the commit, and nothing vouches for it: the API may die in between, Redis may
//! be down, be flushed, or come back from an old snapshot. So the sweep walks over everything that was accepted and is
//! not settled, in the order of ids, and asks the queue about it. It costs a bounded read for each step, and writes
//! nothing. Later attempts are the dispatcher's.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, Status},
    entities::{delivery, sweep_cursor},
    ids::{DeliveryId, TenantId},
    queue::{Job, Lane, Queue},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseConnection, DbErr, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect, sea_query::OnConflict,
};

use crate::dispatch::StepError;

/// How many deliveries one step looks at.
const BATCH: u64 = 2_000;
/// Younger deliveries are left alone: their push is on its way, and their transaction may not even be visible yet.
const GRACE: TimeDelta = TimeDelta::seconds(5);
/// How far the floor stays behind, so that a transaction that commits late is still found.
const SLOWEST_COMMIT: TimeDelta = TimeDelta::seconds(60);
const NAME: &str = "first_jobs";

/// Where the walk stands.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Everything below is settled, for good.
    floor: DeliveryId,
    /// How far this walk has come.
    cursor: DeliveryId,
    /// The first delivery that this walk found unsettled.
    unsettled: Option<DeliveryId>,
}

/// What one step found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many lost jobs were queued again.
    pub requeued: usize,
    /// Whether the walk is at its end; the next step begins a new one.
    pub complete: bool,
}

impl Sweep {
    /// A walk that begins where the last one of any worker ended.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn begin(db: &DatabaseConnection) -> Result<Self, DbErr> {
        let stored = sweep_cursor::Entity::find_by_id(NAME.to_owned())
            .one(db)
            .await?;
        let floor = stored.map_or(DeliveryId::from_uuid(uuid::Uuid::nil()), |row| row.floor);
        Ok(Self {
            floor,
            cursor: floor,
            unsettled: None,
        })
    }

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
        let waiting = waiting(db, self.cursor, DeliveryId::floor(now - GRACE)).await?;
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
        self.unsettled = self
            .unsettled
            .or(waiting.first().map(|(job, _)| job.delivery));
        let complete = (waiting.len() as u64) < BATCH;
        if complete {
            self.finish(db, now).await?;
        } else if let Some((last, _)) = waiting.last() {
            self.cursor = last.delivery;
        }
        Ok(Found { requeued, complete })
    }

    /// Ends a walk: what lies below the first unsettled delivery need not be looked at again.
    async fn finish(&mut self, db: &DatabaseConnection, now: Timestamp) -> Result<(), DbErr> {
        let settled = DeliveryId::floor(now - SLOWEST_COMMIT);
        // One below the unsettled delivery, because a walk begins behind its cursor.
        let below = |id: DeliveryId| {
            DeliveryId::from_uuid(uuid::Uuid::from_u128(id.uuid().as_u128().saturating_sub(1)))
        };
        let floor = self
            .unsettled
            .map_or(settled, |id| below(id).min(settled))
            .max(self.floor);
        if floor != self.floor {
            store(db, floor, now).await?;
        }
        *self = Self {
            floor,
            cursor: floor,
            unsettled: None,
        };
        Ok(())
    }
}

/// Deliveries between two ids that were never attempted and have no time set.
async fn waiting(
    db: &DatabaseConnection,
    after: DeliveryId,
    before: DeliveryId,
) -> Result<Vec<(Job, Lane)>, DbErr> {
    use delivery::{Column, Entity};
    let rows: Vec<(DeliveryId, TenantId, DeliveryKind, Option<Timestamp>)> = Entity::find()
        .select_only()
        .columns([
            Column::Id,
            Column::TenantId,
            Column::Kind,
            Column::ReplayedAt,
        ])
        .filter(Column::Id.gt(after))
        .filter(Column::Id.lt(before))
        .filter(Column::Status.eq(Status::Pending))
        .filter(Column::DispatchAt.is_null())
        .order_by_asc(Column::Id)
        .limit(BATCH)
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(delivery, tenant, kind, replayed_at)| {
            let lane = Lane::of(kind, replayed_at.is_some());
            (Job { delivery, tenant }, lane)
        })
        .collect())
}

/// Stores the floor; one that another worker has stored meanwhile may be lower, which only costs a longer walk.
async fn store(db: &DatabaseConnection, floor: DeliveryId, now: Timestamp) -> Result<(), DbErr> {
    let row = sweep_cursor::ActiveModel {
        name: Set(NAME.to_owned()),
        floor: Set(floor),
        updated_at: Set(now),
    };
    let newer = [sweep_cursor::Column::Floor, sweep_cursor::Column::UpdatedAt];
    sweep_cursor::Entity::insert(row)
        .on_conflict(
            OnConflict::column(sweep_cursor::Column::Name)
                .update_columns(newer)
                .to_owned(),
        )
        .exec_without_returning(db)
        .await
        .map(|_| ())
}
