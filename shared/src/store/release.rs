//! Lets parked deliveries go: the oldest of a circuit, its probes, one whose turn it is, and what has expired meanwhile.
//!
//! Guarantee: what is released has a job in the answer, and `dispatch_at` is set as by a claim of the dispatcher, so that it
//! is found again when the job is lost or the process is killed before the job is on the queue. Of several that release the
//! same delivery one succeeds. One that has ended while it was parked is only freed from its circuit; its job does nothing.
//!
//! Transition: `released` (pending → pending).

use sea_orm::{ConnectionTrait, DbErr, Statement, Value};
use uuid::Uuid;

use super::claim::Dispatched;
use crate::{
    clock::Timestamp,
    db::{self, Database, Transaction},
    ids::DeliveryId,
    queue::CLAIM,
};

/// How many deliveries are released at once at most.
pub const BATCH: u32 = 500;

/// Releases one delivery, if it is parked.
///
/// # Errors
/// When the database fails.
pub async fn one(
    tx: &impl ConnectionTrait,
    delivery: DeliveryId,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    release(tx, "its_turn", "id = $2", vec![delivery.into()], now).await
}

/// Releases up to `count` of the oldest deliveries that are parked for a circuit.
///
/// # Errors
/// When the database fails.
pub async fn oldest(
    tx: &Transaction,
    circuit: Uuid,
    count: u32,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let oldest = "id IN (SELECT id FROM deliveries WHERE parked_for = $2 ORDER BY id LIMIT $3)";
    let params = vec![circuit.into(), i64::from(count).into()];
    release(tx, "oldest", oldest, params, now).await
}

/// Releases up to `count` deliveries as probes of a circuit. A probe that fails costs its delivery an attempt, so among the
/// [`BATCH`] oldest those go first that have had the fewest.
///
/// # Errors
/// When the database fails.
pub async fn probes(
    tx: &Transaction,
    circuit: Uuid,
    count: u32,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let freshest = "id IN (SELECT id FROM (\
         SELECT id, attempt_count FROM deliveries WHERE parked_for = $2 ORDER BY id LIMIT $3) AS oldest \
         ORDER BY attempt_count, id LIMIT $4)";
    let (oldest, count) = (i64::from(BATCH), i64::from(count));
    let params = vec![circuit.into(), oldest.into(), count.into()];
    release(tx, "probe", freshest, params, now).await
}

/// Releases what has expired among the [`BATCH`] oldest of a circuit: it ends without an attempt, so it would be no probe.
///
/// # Errors
/// When the database fails.
pub async fn expired_of(
    tx: &Transaction,
    circuit: Uuid,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let expired = "id IN (SELECT id FROM (\
         SELECT id, expires_at FROM deliveries WHERE parked_for = $2 ORDER BY id LIMIT $3) AS oldest \
         WHERE expires_at <= $4)";
    let params = vec![circuit.into(), i64::from(BATCH).into(), now.into()];
    release(tx, "expired", expired, params, now).await
}

/// Releases up to [`BATCH`] deliveries that have expired while they were parked, whatever their circuits: each ends without
/// an attempt.
///
/// # Errors
/// When the database fails. The answer may have been lost after the commit (see [`db::is_outcome_unknown`]): then what was
/// released is due again when its claim runs out.
pub async fn expired(db: &Database, now: Timestamp) -> Result<Vec<Dispatched>, DbErr> {
    let expired = format!(
        "id IN (SELECT id FROM deliveries WHERE expires_at <= $2 AND parked_for IS NOT NULL ORDER BY expires_at LIMIT $3{})",
        db::skip_locked(db.get_database_backend())
    );
    let params = vec![now.into(), i64::from(BATCH).into()];
    release(db, "expired", &expired, params, now).await
}

/// What somebody else has released or ended while this statement waited for its row is left alone.
async fn release(
    tx: &impl ConnectionTrait,
    why: &'static str,
    which: &str,
    params: Vec<Value>,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    // CASE hides the condition from PostgreSQL's planner. With statistics from before an outage it takes the index of what
    // is parked for a small one, and would look through all of it for each row.
    let sql = format!(
        "UPDATE deliveries SET parked_for = NULL, dispatch_at = CASE status WHEN 'pending' THEN $1 END \
         WHERE {which} AND CASE WHEN parked_for IS NULL THEN 0 ELSE 1 END = 1 \
         RETURNING {}",
        Dispatched::COLUMNS
    );
    let params = std::iter::once((now + CLAIM).into()).chain(params);
    let backend = tx.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, sql, params);
    let rows = tx.query_all_raw(statement).await?;
    let released: Vec<Dispatched> = rows
        .iter()
        .map(Dispatched::read)
        .collect::<Result<_, _>>()?;
    for one in &released {
        tracing::debug!(delivery = %one.job.delivery, reason = why, "delivery released");
    }
    Ok(released)
}
