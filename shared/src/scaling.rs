//! How much work waits in each lane, for those who decide how many workers run.
//!
//! Each figure is counted over a bounded number of rows and flows, so that the answer costs the same whatever is stored.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbErr, EntityTrait as _, FromQueryResult,
    QueryFilter as _, QuerySelect as _, Statement, TryGetable as _,
};
use serde::Serialize;

use crate::{
    clock::Timestamp,
    db::Database,
    delivery::{DeliveryKind, Status},
    entities::delivery,
    ids::DeliveryId,
    queue::{CLAIM, Lane, Queue, QueueError, Startable},
};

/// Up to how many rows of the database are counted.
pub const ROWS_COUNTED: i64 = 10_000;
/// How many first jobs are looked up for the age of the oldest.
const HEADS_LOOKED_UP: usize = 500;

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
        let (due, held) = (due_in_database(db, now).await?, held_back(db).await?);
        let mut work = Self::default();
        for lane in Lane::ALL {
            let queued = queue.startable(lane, Some(default_cap)).await?;
            let queued_since = due_since(db, &queued.heads).await?;
            let (count, since) = due.of(lane);
            let oldest = [queued_since, since].into_iter().flatten().min();
            *work.of(lane) = lane_work(&queued, count, held.of(lane).0, oldest, now);
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
    held: u64,
    oldest: Option<Timestamp>,
    now: Timestamp,
) -> LaneWork {
    let age = oldest.map(|since| (now - since).num_milliseconds().max(0));
    // Milliseconds of any age that occurs are exact as a float.
    let age = age.and_then(|ms| u32::try_from(ms / 100).ok());
    LaneWork {
        backlog: queued.depth + due + held,
        due_now: queued.startable + due,
        oldest_due_age_s: age.map_or(0.0, |tenths| f64::from(tenths) / 10.0),
    }
}

/// Rows of the database by lane, with the earliest time among them.
struct Rows(Vec<Counted>);

#[derive(FromQueryResult)]
struct Counted {
    kind: DeliveryKind,
    replayed: bool,
    count: i64,
    since: Option<Timestamp>,
}

impl Rows {
    fn of(&self, lane: Lane) -> (u64, Option<Timestamp>) {
        let rows = self.0.iter();
        let of_lane = rows.filter(|row| Lane::of(row.kind, row.replayed) == lane);
        of_lane.fold((0, None), |(count, since), row| {
            let earlier = [since, row.since].into_iter().flatten().min();
            (count + row.count.unsigned_abs(), earlier)
        })
    }
}

/// What is due and not on the queue: nearly nothing, unless no dispatcher runs. The oldest, in the order of the index that
/// live work and replays have each.
async fn due_in_database(db: &Database, now: Timestamp) -> Result<Rows, DbErr> {
    let of = |replayed: bool| {
        let (flag, condition) = match replayed {
            true => ("true", "replayed_at IS NOT NULL"),
            false => ("false", "replayed_at IS NULL"),
        };
        format!(
            "SELECT kind, {flag} AS replayed, count(*) AS count, min(dispatch_at) AS since FROM \
             (SELECT kind, dispatch_at FROM deliveries WHERE dispatch_at <= $1 AND {condition} \
             ORDER BY dispatch_at LIMIT {ROWS_COUNTED}) AS oldest GROUP BY kind"
        )
    };
    let sql = format!("{} UNION ALL {}", of(false), of(true));
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [now.into()]);
    Ok(Rows(Counted::find_by_statement(statement).all(db).await?))
}

/// What waits for a circuit, a pause or its turn.
async fn held_back(db: &Database) -> Result<Rows, DbErr> {
    let sql = format!(
        "SELECT kind, replayed, count(*) AS count, NULL AS since FROM \
         (SELECT kind, replayed_at IS NOT NULL AS replayed FROM deliveries WHERE parked_for IS NOT NULL \
         LIMIT {ROWS_COUNTED}) AS held GROUP BY kind, replayed"
    );
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await?;
    let rows = rows.iter().map(|row| {
        Ok(Counted {
            kind: DeliveryKind::try_get(row, "", "kind")?,
            replayed: row.try_get("", "replayed")?,
            count: row.try_get("", "count")?,
            since: None,
        })
    });
    rows.collect::<Result<_, DbErr>>().map(Rows)
}

/// Since when the first of these has been due. A retry, or what a circuit let go, is due since it was put onto the queue, for
/// all that this shows: how long the endpoint itself held it up does not count. It is put there anew every [`CLAIM`].
async fn due_since(db: &Database, heads: &[DeliveryId]) -> Result<Option<Timestamp>, DbErr> {
    // Those that were accepted first.
    let mut heads = heads.to_vec();
    heads.sort_unstable();
    heads.truncate(HEADS_LOOKED_UP);
    let rows: Vec<Head> = delivery::Entity::find()
        .select_only()
        .columns([
            delivery::Column::DispatchAt,
            delivery::Column::ReplayedAt,
            delivery::Column::CreatedAt,
        ])
        .filter(delivery::Column::Id.is_in(heads))
        .filter(delivery::Column::Status.eq(Status::Pending))
        .into_model()
        .all(db)
        .await?;
    let since = rows.into_iter().map(|row| match row.dispatch_at {
        Some(again) => again - CLAIM,
        None => row.replayed_at.unwrap_or(row.created_at),
    });
    Ok(since.min())
}

#[derive(FromQueryResult)]
struct Head {
    dispatch_at: Option<Timestamp>,
    replayed_at: Option<Timestamp>,
    created_at: Timestamp,
}
