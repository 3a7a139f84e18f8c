//! The rows of circuits, under their lock.
//!
//! Whoever needs the lock of circuits and changes deliveries in one transaction takes the circuits first, in the order
//! of their ids: then no two of them wait for each other.

use std::collections::BTreeMap;

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbBackend, DbErr, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Set,
    sea_query::{Expr, OnConflict},
};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    db::Transaction,
    entities::circuit::{ActiveModel, Column, Entity, Model},
    ids::TenantId,
};

/// Of circuits that are not closed and at rest, in SQL: a success may change something about them. Any other is the same as
/// none.
pub const RESTLESS: &str =
    "NOT (state = 'closed' AND failures = 0 AND failing_since IS NULL AND pace IS NULL)";

/// Which of these circuits a success may change, without locking them.
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

/// Has the workers look at an endpoint's circuit at once, because something about the endpoint has changed that what is
/// held back for it may depend on. Does nothing when there is no circuit, because then nothing is held back. Like
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
