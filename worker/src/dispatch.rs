//! The dispatcher: moves deliveries whose time has come from the database onto the queue.
//!
//! Any number of workers may run it. A claim puts `dispatch_at` ten minutes ahead, so that no other dispatcher takes the
//! same delivery, and so that it is found again should its job be lost.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::{self, Database},
    delivery::DeliveryKind,
    entities::delivery,
    ids::{DeliveryId, TenantId},
    queue::{self, Job, Lane, Queue, QueueError},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryResult, Statement,
    TryGetable, sea_query::Expr,
};

use crate::retry;

/// How many deliveries one step moves at most.
pub const BATCH: u64 = 500;
/// How long a claim holds. A job that waits longer in the queue is written to the database once more for nothing, and one
/// that was lost is found sooner by the sweep.
pub(crate) const CLAIM: TimeDelta = queue::CLAIM;
/// How often the release of claims is tried whose answer was lost: for about as long as a claim holds.
const RELEASE_TRIES: usize = 300;
/// What [`step_recent`] looks at: what came due in this time, however seldom it is made and whosever clock is a little off.
const RECENT: TimeDelta = TimeDelta::minutes(1);
/// A lane that already holds this many jobs gets no more: what waits in the database costs nothing, and a job about 200
/// bytes of Redis. The bound is for memory alone. It has to be far above the backlog of one endpoint, which waits in a
/// line of its own and must not keep the jobs of the others out of the queue.
pub const FULL: u64 = 500_000;

/// A step of the dispatcher, or of the sweep, did not get through. Everything stays where it was.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Moves one batch of due deliveries onto the queue and returns how many there were.
///
/// # Errors
/// When the database or the queue cannot be reached; nothing is lost then.
pub async fn step(db: &Database, queue: &Queue, now: Timestamp) -> Result<u64, StepError> {
    step_since(db, queue, Timestamp::UNIX_EPOCH, now).await
}

/// [`step`] for what has come due in the last minute, which is nearly everything. PostgreSQL keeps the places of what was
/// claimed before in the index until the next vacuum, and a look at everything passes by them all.
///
/// # Errors
/// As [`step`].
pub async fn step_recent(db: &Database, queue: &Queue, now: Timestamp) -> Result<u64, StepError> {
    step_since(db, queue, now - RECENT, now).await
}

async fn step_since(
    db: &Database,
    queue: &Queue,
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StepError> {
    let mut moved = 0;
    for lane in Lane::ALL {
        if queue.depth(lane).await? >= FULL {
            continue;
        }
        let claimed = claim(db, lane, since, now).await;
        let jobs = claimed.inspect_err(|error| claims_may_be_lost(db, error, now))?;
        if jobs.is_empty() {
            continue;
        }
        push_claimed(db, queue, lane, &jobs, now).await?;
        moved += jobs.len() as u64;
    }
    Ok(moved)
}

/// Puts deliveries that were released or are due at once onto their queues. What cannot be put there is left to the next
/// step.
pub(crate) async fn push(
    db: &Database,
    queue: &Queue,
    dispatched: &[Dispatched],
    now: Timestamp,
) -> Result<(), StepError> {
    for lane in Lane::ALL {
        let of_lane = dispatched.iter().filter(|one| one.lane == lane);
        let jobs: Vec<Job> = of_lane.map(|one| one.job).collect();
        if !jobs.is_empty() {
            push_claimed(db, queue, lane, &jobs, now).await?;
        }
    }
    Ok(())
}

/// Queues what is claimed, or takes the claim back.
async fn push_claimed(
    db: &Database,
    queue: &Queue,
    lane: Lane,
    jobs: &[Job],
    now: Timestamp,
) -> Result<(), StepError> {
    if let Err(error) = queue.push(lane, jobs).await {
        if let Err(error) = return_claim(db, jobs, now).await {
            tokio::spawn(release_claims(db.clone(), now));
            return Err(error.into());
        }
        return Err(error.into());
    }
    Ok(())
}

async fn claim(
    db: &Database,
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
        BATCH.cast_signed().into(),
    ];
    let rows = db
        .query_all_raw(Statement::from_sql_and_values(backend, sql, params))
        .await?;
    rows.iter().map(job).collect()
}

fn job(row: &QueryResult) -> Result<Job, DbErr> {
    Ok(Job {
        delivery: DeliveryId::try_get(row, "", "id")?,
        tenant: TenantId::try_get(row, "", "tenant_id")?,
        endpoint: row.try_get("", "endpoint_id")?,
    })
}

/// A delivery that goes onto the queue, and onto which.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dispatched {
    pub(crate) lane: Lane,
    pub(crate) job: Job,
}

impl Dispatched {
    /// A webhook that was never replayed.
    pub(crate) const fn live_webhook(job: Job) -> Self {
        Self {
            lane: Lane::Webhooks,
            job,
        }
    }

    /// Reads `id`, `tenant_id`, `endpoint_id`, `kind` and `replayed_at`.
    pub(crate) fn read(row: &QueryResult) -> Result<Self, DbErr> {
        let kind = DeliveryKind::try_get(row, "", "kind")?;
        let replayed: Option<Timestamp> = row.try_get("", "replayed_at")?;
        Ok(Self {
            lane: Lane::of(kind, replayed.is_some()),
            job: job(row)?,
        })
    }
}

/// Takes a claim back, so that the next step finds the deliveries at once.
async fn return_claim(db: &Database, jobs: &[Job], now: Timestamp) -> Result<(), DbErr> {
    delivery::Entity::update_many()
        .col_expr(delivery::Column::DispatchAt, Expr::value(now))
        .filter(delivery::Column::Id.is_in(jobs.iter().map(|job| job.delivery)))
        .filter(delivery::Column::DispatchAt.eq(now + CLAIM))
        .exec(db)
        .await
        .map(|_| ())
}

/// To be called when deliveries were claimed at `now` and the answer did not come. If the claim was committed, nobody knows
/// which deliveries it took, and they would wait until it ends. So everything that carries it is made due again, as soon
/// as the database answers.
pub(crate) fn claims_may_be_lost(db: &Database, error: &DbErr, now: Timestamp) {
    if db::is_outcome_unknown(error) {
        tokio::spawn(release_claims(db.clone(), now));
    }
}

async fn release_claims(db: Database, now: Timestamp) {
    let tries = retry::infrastructure().take(RELEASE_TRIES);
    for wait in tries {
        tokio::time::sleep(wait).await;
        match release_claims_once(&db, now).await {
            Ok(0) => return,
            Ok(deliveries) => {
                tracing::info!(deliveries, "released claims whose answer was lost");
                return;
            }
            Err(error) => tracing::debug!(%error, "claims cannot be released yet"),
        }
    }
}

async fn release_claims_once(db: &Database, now: Timestamp) -> Result<u64, DbErr> {
    let mut released = 0;
    // Live and bulk work have an index each.
    for of_index in ["replayed_at IS NULL", "replayed_at IS NOT NULL"] {
        let sql =
            format!("UPDATE deliveries SET dispatch_at = $1 WHERE dispatch_at = $2 AND {of_index}");
        let params = [now.into(), (now + CLAIM).into()];
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, params);
        released += db.execute_raw(statement).await?.rows_affected();
    }
    Ok(released)
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
