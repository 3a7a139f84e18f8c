//! Claim: what is due → jobs, for the dispatcher.
//!
//! **Guarantee.** A claim puts `dispatch_at` ahead by [`CLAIM`], so that no other dispatcher takes the same delivery, and so
//! that the delivery is found again when its job is lost, at the latest when the claim ends. After a kill between the claim
//! and the push the deliveries wait until then.
//!
//! Transitions: none; the delivery stays `pending`.

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, TryGetable as _, Value};

use super::by_id;
use crate::{
    clock::Timestamp,
    db::{self, rows},
    delivery::DeliveryKind,
    ids::{DeliveryId, TenantId},
    queue::{CLAIM, Job, Lane},
};

/// The number of deliveries that one claim takes at most.
pub const AT_MOST: u64 = 500;

/// A delivery that goes onto the queue, and the lane that it goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// The lane of the delivery.
    pub lane: Lane,
    /// The job that brings it to a worker.
    pub job: Job,
}

impl Dispatched {
    /// The columns of `deliveries` that [`Dispatched::read`] reads.
    pub const COLUMNS: &str = "id, tenant_id, endpoint_id, kind, replayed_at";

    /// A webhook that was never replayed.
    pub const fn live_webhook(job: Job) -> Self {
        Self {
            lane: Lane::Webhooks,
            job,
        }
    }

    /// Reads a row that has [`Dispatched::COLUMNS`].
    ///
    /// # Errors
    /// When the row lacks one of them.
    pub fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let kind = DeliveryKind::try_get(row, "", "kind")?;
        let replayed: Option<Timestamp> = row.try_get("", "replayed_at")?;
        Ok(Self {
            lane: Lane::of(kind, replayed.is_some()),
            job: job(row)?,
        })
    }
}

/// Claims up to [`AT_MOST`] deliveries of a lane that came due after `since` and are due at `now`, the oldest first. Several
/// dispatchers claim different ones.
///
/// # Errors
/// When the database fails. When its answer was lost, the claim may hold all the same, and [`release_lost`] ends it.
pub async fn due(
    db: &impl ConnectionTrait,
    lane: Lane,
    since: Timestamp,
    now: Timestamp,
) -> Result<Vec<Job>, DbErr> {
    let backend = db.get_database_backend();
    // MATERIALIZED: PostgreSQL could otherwise run the inner select, and its limit, more than once.
    let sql = format!(
        "WITH due AS MATERIALIZED (SELECT id AS due_id FROM deliveries WHERE dispatch_at > $2 AND dispatch_at <= $3 AND {} \
         ORDER BY dispatch_at LIMIT $4{}) \
         UPDATE deliveries SET dispatch_at = $1 FROM due WHERE id = due_id RETURNING id, tenant_id, endpoint_id",
        of_lane(lane),
        db::skip_locked(backend)
    );
    let params = [
        (now + CLAIM).into(),
        since.into(),
        now.into(),
        AT_MOST.cast_signed().into(),
    ];
    let statement = Statement::from_sql_and_values(backend, sql, params);
    let rows = db.query_all_raw(statement).await?;
    rows.iter().map(job).collect()
}

/// Takes back a claim that was made at `now`, so that the next dispatcher finds the deliveries at once.
///
/// # Errors
/// When the database fails; then the claim may still hold.
pub async fn give_back(
    db: &impl ConnectionTrait,
    jobs: &[Job],
    now: Timestamp,
) -> Result<(), DbErr> {
    if jobs.is_empty() {
        return Ok(());
    }
    let statement = rows::given(
        db.get_database_backend(),
        &by_id::GIVEN,
        by_id::given(jobs.iter().map(|job| job.delivery)),
        params(now),
        "UPDATE deliveries SET dispatch_at = $1 FROM given WHERE id = given_id AND dispatch_at = $2",
    )?;
    db.execute_raw(statement).await.map(|_| ())
}

/// Makes due again everything that carries a claim made at `now`, and returns how many deliveries that were. To be used when
/// nobody knows which deliveries the claim took.
///
/// # Errors
/// When the database fails; then some claims may still hold.
pub async fn release_lost(db: &impl ConnectionTrait, now: Timestamp) -> Result<u64, DbErr> {
    let mut released = 0;
    // Live and bulk work have an index each.
    for of_index in ["replayed_at IS NULL", "replayed_at IS NOT NULL"] {
        let sql =
            format!("UPDATE deliveries SET dispatch_at = $1 WHERE dispatch_at = $2 AND {of_index}");
        let backend = db.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, params(now));
        released += db.execute_raw(statement).await?.rows_affected();
    }
    Ok(released)
}

/// `$1`, when the claim was made, and `$2`, what it has set `dispatch_at` to.
fn params(now: Timestamp) -> Vec<Value> {
    vec![now.into(), (now + CLAIM).into()]
}

fn job(row: &QueryResult) -> Result<Job, DbErr> {
    Ok(Job {
        delivery: DeliveryId::try_get(row, "", "id")?,
        tenant: TenantId::try_get(row, "", "tenant_id")?,
        endpoint: row.try_get("", "endpoint_id")?,
        limits: None,
    })
}

/// [`Lane::of`] as a condition. Live and bulk work have an index each, which its terms on `replayed_at` choose: what is
/// live is found without a look at the replays that wait.
const fn of_lane(lane: Lane) -> &'static str {
    match lane {
        Lane::Webhooks => "kind = 'webhook' AND replayed_at IS NULL",
        Lane::Emails => "kind = 'email' AND replayed_at IS NULL",
        Lane::Bulk => "replayed_at IS NOT NULL",
    }
}
