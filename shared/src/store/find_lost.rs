//! Find lost: the reads of the two walks over deliveries whose jobs may have been lost.
//!
//! **Guarantee.** The walks change and lock nothing, and a kill loses nothing: the next walk begins anew. Only deliveries are
//! found that are `pending` and not parked: the circuit of a parked one brings it on its way.
//!
//! Transitions: none.

use sea_orm::{ConnectionTrait, DbErr, Statement, TryGetable as _, Value};
use uuid::Uuid;

use super::{by_id, claim::Dispatched};
use crate::{clock::Timestamp, db::rows, ids::DeliveryId};

/// The condition on deliveries that are neither settled nor parked.
const WAITING: &str = "status = 'pending' AND parked_for IS NULL";
/// An id above all others.
const END: DeliveryId = DeliveryId::from_uuid(Uuid::max());
/// An id below all others.
const BEGINNING: DeliveryId = DeliveryId::from_uuid(Uuid::nil());

/// Returns up to `at_most` deliveries between two ids that wait for their first job, the oldest first.
///
/// # Errors
/// When the database fails.
pub async fn new_between(
    db: &impl ConnectionTrait,
    after: DeliveryId,
    before: DeliveryId,
    at_most: u64,
) -> Result<Vec<Dispatched>, DbErr> {
    let sql = format!(
        "SELECT {} FROM deliveries WHERE {WAITING} AND dispatch_at IS NULL AND id > $1 AND id < $2 ORDER BY id LIMIT $3",
        Dispatched::COLUMNS
    );
    let params = [after.into(), before.into(), at_most.cast_signed().into()];
    read(db, &sql, params).await
}

/// Returns those of some deliveries that wait for their first job, the oldest first.
///
/// # Errors
/// When the database fails.
pub async fn new_among(
    db: &impl ConnectionTrait,
    ids: &[DeliveryId],
) -> Result<Vec<Dispatched>, DbErr> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let select = format!(
        "SELECT {} FROM given JOIN deliveries ON id = given_id WHERE {WAITING} AND dispatch_at IS NULL ORDER BY id",
        Dispatched::COLUMNS
    );
    let ids = by_id::given(ids.iter().copied());
    let backend = db.get_database_backend();
    let statement = rows::given(backend, &by_id::GIVEN, ids, Vec::new(), &select)?;
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(Dispatched::read).collect()
}

/// A part of the walk over everything, which goes from the newest delivery to the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    below: DeliveryId,
    from: Option<DeliveryId>,
}

impl Part {
    /// Measures the next part: the `deliveries` newest deliveries `below` the part before it, in whatever state. The index alone
    /// tells where the part ends, and what is settled never leaves the database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(
        db: &impl ConnectionTrait,
        below: Option<DeliveryId>,
        deliveries: u64,
    ) -> Result<Self, DbErr> {
        let below = below.unwrap_or(END);
        let last = Statement::from_sql_and_values(
            db.get_database_backend(),
            "SELECT id FROM deliveries WHERE id < $1 ORDER BY id DESC LIMIT 1 OFFSET $2",
            [
                below.into(),
                deliveries.saturating_sub(1).cast_signed().into(),
            ],
        );
        let last = db.query_one_raw(last).await?;
        let from = last.map(|row| DeliveryId::try_get(&row, "", "id"));
        let from = from.transpose()?;
        Ok(Self { below, from })
    }

    /// The oldest delivery of this part. None when no part comes after it.
    pub const fn last(&self) -> Option<DeliveryId> {
        self.from
    }

    /// Returns the deliveries of this part that nothing but their job brings on their way soon: they were never dispatched, or
    /// are due at `now` and claimed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting(
        &self,
        db: &impl ConnectionTrait,
        now: Timestamp,
    ) -> Result<Vec<Dispatched>, DbErr> {
        let sql = format!(
            "SELECT {} FROM deliveries WHERE {WAITING} \
             AND (dispatch_at IS NULL OR (dispatch_at > $1 AND (next_attempt_at IS NULL OR next_attempt_at <= $1))) \
             AND id < $2 AND id >= $3",
            Dispatched::COLUMNS
        );
        let from = self.from.unwrap_or(BEGINNING);
        read(db, &sql, [now.into(), self.below.into(), from.into()]).await
    }
}

async fn read(
    db: &impl ConnectionTrait,
    sql: &str,
    params: [Value; 3],
) -> Result<Vec<Dispatched>, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, params);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(Dispatched::read).collect()
}
