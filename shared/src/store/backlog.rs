//! Counts of the work that waits, for those who decide how many workers run.
//!
//! Guarantee: each count looks at a bounded number of rows, so it costs the same whatever is stored. Nothing is written, and
//! no transition of a delivery is made here.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, FromQueryResult, QueryFilter as _,
    QuerySelect as _, Statement, TryGetable as _,
};

use super::schema::delivery::{Column, Entity};
use crate::{
    clock::Timestamp,
    delivery::{DeliveryKind, Status},
    ids::DeliveryId,
    queue::{CLAIM, Lane},
};

/// Up to how many rows are counted.
pub const COUNTED: i64 = 10_000;
/// How many deliveries are looked up for the age of the oldest.
const LOOKED_UP: usize = 500;

/// Deliveries by lane.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Vec<Counted>);

#[derive(Clone, Debug, FromQueryResult)]
struct Counted {
    kind: DeliveryKind,
    replayed: bool,
    count: i64,
    since: Option<Timestamp>,
}

impl Backlog {
    /// How many deliveries there are in a lane, and the earliest `dispatch_at` among them.
    pub fn of(&self, lane: Lane) -> (u64, Option<Timestamp>) {
        let rows = self.0.iter();
        let of_lane = rows.filter(|row| Lane::of(row.kind, row.replayed) == lane);
        of_lane.fold((0, None), |(count, since), row| {
            let earlier = [since, row.since].into_iter().flatten().min();
            (count + row.count.unsigned_abs(), earlier)
        })
    }
}

/// Counts the deliveries that are due and that no dispatcher has claimed. There are nearly none, unless no dispatcher runs.
/// The oldest are counted, in the order of the index that live work and replays have each.
///
/// # Errors
/// When the database fails.
pub async fn due(db: &impl ConnectionTrait, now: Timestamp) -> Result<Backlog, DbErr> {
    let of = |replayed: bool| {
        let (flag, condition) = match replayed {
            true => ("true", "replayed_at IS NOT NULL"),
            false => ("false", "replayed_at IS NULL"),
        };
        format!(
            "SELECT kind, {flag} AS replayed, count(*) AS count, min(dispatch_at) AS since FROM \
             (SELECT kind, dispatch_at FROM deliveries WHERE dispatch_at <= $1 AND {condition} \
             ORDER BY dispatch_at LIMIT {COUNTED}) AS oldest GROUP BY kind"
        )
    };
    let sql = format!("{} UNION ALL {}", of(false), of(true));
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [now.into()]);
    Ok(Backlog(
        Counted::find_by_statement(statement).all(db).await?,
    ))
}

/// Counts the deliveries that are parked.
///
/// # Errors
/// When the database fails.
pub async fn parked(db: &impl ConnectionTrait) -> Result<Backlog, DbErr> {
    let sql = format!(
        "SELECT kind, replayed, count(*) AS count FROM \
         (SELECT kind, replayed_at IS NOT NULL AS replayed FROM deliveries WHERE parked_for IS NOT NULL \
         LIMIT {COUNTED}) AS held GROUP BY kind, replayed"
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
    rows.collect::<Result<_, DbErr>>().map(Backlog)
}

/// Finds out since when the first of these deliveries, whose jobs are on the queue, has been due. One that was retried or
/// released is due since it was last put onto the queue: how long the endpoint itself held it up does not count. It is put
/// there anew every [`CLAIM`].
///
/// # Errors
/// When the database fails.
pub async fn due_since(
    db: &impl ConnectionTrait,
    queued: &[DeliveryId],
) -> Result<Option<Timestamp>, DbErr> {
    // Those that were accepted first.
    let mut queued = queued.to_vec();
    queued.sort_unstable();
    queued.truncate(LOOKED_UP);
    let rows: Vec<Queued> = Entity::find()
        .select_only()
        .columns([Column::DispatchAt, Column::ReplayedAt, Column::CreatedAt])
        .filter(Column::Id.is_in(queued))
        .filter(Column::Status.eq(Status::Pending))
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
struct Queued {
    dispatch_at: Option<Timestamp>,
    replayed_at: Option<Timestamp>,
    created_at: Timestamp,
}
