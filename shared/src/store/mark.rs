//! Mark: the durable sign that a mail's content is being handed over: two columns of `deliveries`, `sending_token`, which one
//! attempt alone has, and `sending_at`, when the worker of that attempt last said that it still waits.
//!
//! **Guarantee.** When [`set`] names a delivery, its mark is committed: of several attempts at the same delivery one may hand
//! the content over, and after a kill the row says that the mail may have been accepted. A mark that is not named must not be
//! acted on. A kill in the middle of a statement leaves either all of its marks or none.
//!
//! Transitions: none; the delivery stays `pending`. Its mark ends when [`record`](super::record) writes the attempt's
//! outcome, or with [`clear`] when no attempt was made.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, TryGetable as _, Value};
use uuid::Uuid;

use super::{by_id, load::AS_LOADED};
use crate::{
    clock::Timestamp,
    db::rows::{self, Column, Kind},
    ids::DeliveryId,
};

/// The assignments that clear a mark.
pub(super) const CLEAR: &str = "sending_token = NULL, sending_at = NULL";

/// While a mail is handed over, only the attempt that does so changes its delivery.
pub(super) const NOT_ANOTHERS: &str = "(sending_token IS NULL OR sending_token = token)";

const GIVEN: [Column; 3] = [
    Column::new("delivery_id", Kind::Uuid),
    Column::new("seen", Kind::Integer),
    Column::new("token", Kind::Uuid),
];

/// The mark of a mail whose content is being handed over, or was when its worker died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// The token that only that attempt marks the delivery with.
    pub token: Uuid,
    /// The time when its worker last said that it waits for the mail server's answer, by the database's clock.
    pub at: Timestamp,
}

/// A mark that an attempt sets or clears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The number of attempts that had ended when the delivery was loaded.
    pub seen: i32,
    /// The attempt's token.
    pub token: Uuid,
}

/// Marks deliveries that are still as they were loaded and that no other attempt has marked, and returns which. Setting a mark
/// again renews it. The time of a mark is PostgreSQL's, which all workers agree on. An SQLite database is of this machine,
/// and so is its time: `now`.
///
/// # Errors
/// When the database fails; then it is not known whether the marks are set.
pub async fn set(
    db: &impl ConnectionTrait,
    marks: &[Mark],
    now: Timestamp,
) -> Result<HashSet<DeliveryId>, DbErr> {
    let (time, first) = match db.get_database_backend() {
        DbBackend::Postgres => ("now()", Vec::new()),
        _ => ("$1", vec![Value::from(now)]),
    };
    let sql = format!(
        "UPDATE deliveries SET sending_token = token, sending_at = {time} \
         FROM given WHERE {AS_LOADED} AND {NOT_ANOTHERS} RETURNING id"
    );
    write(db, marks, first, &sql).await
}

/// Clears the marks of attempts that were not made, and returns the deliveries that had them.
///
/// # Errors
/// When the database fails; then it is not known whether the marks are cleared.
pub async fn clear(
    db: &impl ConnectionTrait,
    marks: &[Mark],
) -> Result<HashSet<DeliveryId>, DbErr> {
    let sql = format!(
        "UPDATE deliveries SET {CLEAR} \
         FROM given WHERE id = delivery_id AND attempt_count = seen AND sending_token = token RETURNING id"
    );
    write(db, marks, Vec::new(), &sql).await
}

/// Leaves marked deliveries to the dispatcher until `at`. One that was recorded meanwhile is left alone.
///
/// # Errors
/// When the database fails.
pub async fn put_off(
    db: &impl ConnectionTrait,
    deliveries: &[DeliveryId],
    at: Timestamp,
) -> Result<(), DbErr> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let statement = rows::given(
        db.get_database_backend(),
        &by_id::GIVEN,
        by_id::given(deliveries.iter().copied()),
        vec![at.into()],
        "UPDATE deliveries SET dispatch_at = $1 \
         FROM given WHERE id = given_id AND status = 'pending' AND sending_token IS NOT NULL",
    )?;
    db.execute_raw(statement).await.map(|_| ())
}

async fn write(
    db: &impl ConnectionTrait,
    marks: &[Mark],
    first: Vec<Value>,
    sql: &str,
) -> Result<HashSet<DeliveryId>, DbErr> {
    if marks.is_empty() {
        return Ok(HashSet::new());
    }
    // Rows are locked in the order of their ids, as everywhere.
    let mut marks = marks.to_vec();
    marks.sort_unstable_by_key(|mark| mark.delivery);
    let rows = marks
        .iter()
        .map(|mark| vec![mark.delivery.into(), mark.seen.into(), mark.token.into()]);
    let backend = db.get_database_backend();
    let statement = rows::given(backend, &GIVEN, rows.collect(), first, sql)?;
    let written = db.query_all_raw(statement).await?;
    let ids = written
        .iter()
        .map(|row| DeliveryId::try_get(row, "", "id"))
        .collect::<Result<_, _>>()?;
    Ok(ids)
}
