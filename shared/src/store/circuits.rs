//! The rows of circuits: reading, locking and saving them, and finding those that have to be looked at.
//!
//! Guarantee: a row changes only under its lock, so a circuit is exact however many workers there are. The rules of a
//! circuit are in [`crate::circuit`]; they change a row in memory, and nothing changes here until it is saved. A process that
//! is killed leaves the circuit as the last committed transaction did.
//!
//! A transaction that needs the locks of circuits and changes deliveries takes the circuits first, in the order of their
//! ids: then no two transactions wait for each other.
//!
//! No transition of a delivery is made here.

use std::collections::{BTreeMap, HashMap};

use chrono::TimeDelta;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbBackend, DbErr, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Set, Statement,
    sea_query::{Expr, ExprTrait as _, OnConflict},
};
use uuid::Uuid;

use super::schema::circuit::{ActiveModel, Column, Entity, Model};
use crate::{
    clock::Timestamp,
    db::{self, Transaction},
    delivery::CircuitState,
    ids::TenantId,
};

pub use super::schema::circuit::{Change, History};

/// The condition, in SQL, of a circuit that a success may change: it is not closed and at rest. One that is at rest is the
/// same as none.
pub const RESTLESS: &str =
    "NOT (state = 'closed' AND failures = 0 AND failing_since IS NULL AND pace IS NULL)";

/// Finds those of these circuits that a success may change, without locking them.
///
/// # Errors
/// When the database fails.
pub async fn restless(
    tx: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<Uuid>, DbErr> {
    let restless = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::Id.is_in(ids))
        .filter(Expr::cust(RESTLESS));
    restless.into_tuple().all(tx).await
}

/// Locks the rows of these circuits until the transaction ends. A circuit without a row is closed, and is not in the
/// answer.
///
/// # Errors
/// When the database fails.
pub async fn lock(
    tx: &Transaction,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<BTreeMap<Uuid, Model>, DbErr> {
    let mut rows = Entity::find()
        .filter(Column::Id.is_in(ids))
        .order_by_asc(Column::Id);
    // SQLite has one writer, and a transaction that writes is alone from its beginning.
    if tx.get_database_backend() == DbBackend::Postgres {
        rows = rows.lock_exclusive();
    }
    let rows = rows.all(tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Makes rows for those of these circuits that have none.
///
/// # Errors
/// When the database fails.
pub async fn create_missing(
    tx: &impl ConnectionTrait,
    circuits: impl IntoIterator<Item = (Uuid, Option<TenantId>)>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let mut rows: Vec<Model> = circuits
        .into_iter()
        .map(|(id, tenant)| Model::new(id, tenant, now))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    // In the order of the locks.
    rows.sort_by_key(|row| row.id);
    Entity::insert_many(rows.into_iter().map(Model::into_active_model))
        .on_conflict(OnConflict::column(Column::Id).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map(|_| ())
}

/// Writes a row that [`lock`] gave out.
///
/// # Errors
/// When the database fails.
pub async fn save(tx: &impl ConnectionTrait, row: Model, now: Timestamp) -> Result<(), DbErr> {
    let mut row: ActiveModel = row.into_active_model().reset_all();
    row.updated_at = Set(now);
    Entity::update(row).validate()?.exec(tx).await.map(|_| ())
}

/// Writes those of the rows that [`lock`] gave out that are no longer as they were `before`.
///
/// # Errors
/// When the database fails.
pub async fn save_changed(
    tx: &impl ConnectionTrait,
    before: &BTreeMap<Uuid, Model>,
    rows: BTreeMap<Uuid, Model>,
    now: Timestamp,
) -> Result<(), DbErr> {
    for (id, row) in rows {
        if before.get(&id) != Some(&row) {
            save(tx, row, now).await?;
        }
    }
    Ok(())
}

/// Has the workers look at an endpoint's circuit at once, because something about the endpoint has changed on which its
/// parked deliveries may depend. Does nothing when there is no circuit, because then nothing is held back. Like
/// [`lock`] it holds the row until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn wake(tx: &impl ConnectionTrait, id: Uuid, now: Timestamp) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::ReleaseAt, Expr::value(now))
        .filter(Column::Id.eq(id))
        .exec(tx)
        .await
        .map(|_| ())
}

/// Reads these circuits without locking them. A circuit without a row is closed, and is not in the answer.
///
/// # Errors
/// When the database fails.
pub async fn of(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(db).await
}

/// Takes the circuit whose `release_at` is the earliest of those that are due, with its lock. None when there is none that
/// nobody else has.
///
/// # Errors
/// When the database fails.
pub async fn due(tx: &Transaction, now: Timestamp) -> Result<Option<Model>, DbErr> {
    let backend = tx.get_database_backend();
    let sql = format!(
        "SELECT * FROM circuits WHERE release_at <= $1 ORDER BY release_at LIMIT 1{}",
        db::skip_locked(backend)
    );
    Entity::find()
        .from_raw_sql(Statement::from_sql_and_values(backend, sql, [now.into()]))
        .one(tx)
        .await
}

/// Has the workers look at once at those of these circuits that are not closed. One that they look at within `soon` anyway
/// is left alone.
///
/// # Errors
/// When the database fails.
pub async fn wake_open(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
    soon: TimeDelta,
    now: Timestamp,
) -> Result<(), DbErr> {
    let asleep = Column::ReleaseAt
        .is_null()
        .or(Column::ReleaseAt.gt(now + soon));
    Entity::update_many()
        .col_expr(Column::ReleaseAt, Expr::value(now))
        .filter(Column::Id.is_in(ids))
        .filter(Column::State.ne(CircuitState::Closed))
        .filter(asleep)
        .exec(db)
        .await
        .map(|_| ())
}

/// Wakes circuits that hold deliveries back and have no time at which workers look at them, and returns how many there were.
/// There are none, unless something went wrong that nobody has thought of. Costs one look into an index for each circuit
/// that holds something back.
///
/// Circuits are left alone that wait for an operator (paused, opened by hand), and those that wait for the end of the
/// delivery whose turn it is.
///
/// # Errors
/// When the database fails.
pub async fn wake_forgotten(db: &impl ConnectionTrait, now: Timestamp) -> Result<u64, DbErr> {
    let backend = db.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, WAKE_FORGOTTEN, [now.into()]);
    Ok(db.execute_raw(statement).await?.rows_affected())
}

/// The recursive part looks for the next value after the last, again and again: neither database skips over equal values of
/// an index by itself.
const WAKE_FORGOTTEN: &str = "\
    WITH RECURSIVE held(id) AS (\
      SELECT (SELECT parked_for FROM deliveries WHERE parked_for IS NOT NULL ORDER BY parked_for LIMIT 1) \
      UNION ALL \
      SELECT (SELECT parked_for FROM deliveries WHERE parked_for > held.id ORDER BY parked_for LIMIT 1) \
      FROM held WHERE held.id IS NOT NULL) \
    UPDATE circuits SET release_at = $1 WHERE release_at IS NULL AND id IN (SELECT id FROM held WHERE id IS NOT NULL) \
    AND NOT EXISTS (SELECT 1 FROM endpoints WHERE endpoints.id = circuits.id \
      AND endpoints.deleted_at IS NULL AND endpoints.status <> 'disabled' AND (endpoints.status = 'paused' \
      OR (circuits.state = 'open' AND circuits.retry_at IS NULL) \
      OR (endpoints.ordering = 'fifo' AND EXISTS (SELECT 1 FROM deliveries WHERE deliveries.id = circuits.head \
        AND deliveries.status = 'pending' AND deliveries.parked_for IS NULL))))";

/// Counts the circuits that are open or half-open, up to `most`.
///
/// # Errors
/// When the database fails.
pub async fn count_open(db: &impl ConnectionTrait, most: i64) -> Result<i64, DbErr> {
    let sql = "SELECT count(*) AS count FROM (SELECT 1 FROM circuits WHERE state <> 'closed' LIMIT $1) AS open_ones";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [most.into()]);
    let row = db.query_one_raw(statement).await?;
    row.map_or(Ok(0), |row| row.try_get("", "count"))
}

/// Reads when these circuits let deliveries through next, as far as they say so. Costs no statement for no circuit.
///
/// # Errors
/// When the database fails.
pub async fn retry_times(
    db: &impl ConnectionTrait,
    ids: Vec<Uuid>,
) -> Result<HashMap<Uuid, Timestamp>, DbErr> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let times = Entity::find()
        .select_only()
        .columns([Column::Id, Column::RetryAt])
        .filter(Column::Id.is_in(ids))
        .filter(Column::RetryAt.is_not_null())
        .into_tuple();
    Ok(times.all(db).await?.into_iter().collect())
}
