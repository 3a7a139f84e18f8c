//! Record: reports → effects: the outcomes of many deliveries with their attempts, and the counts of the replay jobs that
//! they belong to. There are two forms: [`delivered`], one statement of PostgreSQL for those of which nothing else follows,
//! and [`write`], a part of the caller's transaction, for any report on any database.
//!
//! **Guarantee.** An outcome takes effect once: only on a delivery that is still as it was loaded, and of a mail only if no other
//! attempt has marked it. Its attempt is stored with it or not at all, each attempt once. Of a report without effect the
//! attempt is still counted when the delivery has ended meanwhile, and its answer still corrects a delivery that is
//! `uncertain`. A kill leaves either all of a statement or transaction, or nothing of it, so that a report that was
//! not confirmed is given again.
//!
//! Transitions: `delivered`, `retry at`, `dead-lettered`; late: `accepted after all`, `refused after all`.

mod columns;
mod delivered;
mod late;

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use sea_orm::{ConnectionTrait, DbErr, TryGetable as _, Value};
use uuid::Uuid;

use super::{Attempt, Delivery, load::AS_LOADED, mark::NOT_ANOTHERS, schema::attempt};
use crate::{
    clock::Timestamp,
    db::{
        Transaction,
        rows::{self, Column, Kind},
    },
    delivery::{AttemptOutcome, ErrorClass, Outcome, Status},
    ids::{AttemptId, DeliveryId, ReplayId},
    replay,
};
use columns::Values;

pub use delivered::{Delivered, delivered};

/// The end of a delivery's turn at a worker.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The delivery as it was loaded.
    pub delivery: &'a Delivery,
    /// The attempt, where one was made.
    pub attempt: Option<Ended<'a>>,
    /// The consequence for the delivery.
    pub outcome: Outcome,
    /// The time of that decision.
    pub at: Timestamp,
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The time when it began.
    pub started_at: Timestamp,
    /// The time that it took, in milliseconds.
    pub duration_ms: i32,
    /// Its end: the receiver confirmed it, or the class of the failure.
    pub result: Result<(), ErrorClass>,
    /// The receiver's status code, where there was one.
    pub status: Option<i32>,
    /// The beginning of the receiver's answer, or an explanation of the failure.
    pub snippet: Option<&'a str>,
    /// The id of the request that made the delivery.
    pub request_id: &'a str,
    /// The token with which the attempt has marked its mail, if it has.
    pub token: Option<Uuid>,
    /// True when the mail may have been accepted although its content was never answered.
    pub uncertain: bool,
}

/// The rows that updates join with.
const GIVEN: [Column; 9] = [
    Column::new("delivery_id", Kind::Uuid),
    Column::new("seen", Kind::Integer),
    Column::new("attempts", Kind::Integer),
    Column::new("new_status", Kind::Text),
    Column::nullable("next_at", Kind::Time),
    Column::nullable("why", Kind::Text),
    Column::nullable("class", Kind::Text),
    Column::nullable("finished", Kind::Time),
    Column::nullable("token", Kind::Uuid),
];

/// The values of any outcome.
const VALUES: Values = Values {
    status: "new_status",
    attempt_count: "attempts",
    next_attempt_at: "next_at",
    reason: "why",
    error_class: "class",
    finished_at: "finished",
    dead_at: "CASE new_status WHEN 'dead' THEN finished END",
};

static UPDATE: LazyLock<String> =
    LazyLock::new(|| update_where(&format!("{AS_LOADED} AND {NOT_ANOTHERS}")));

/// The update of deliveries by their outcomes, for those that fit `condition`.
fn update_where(condition: &str) -> String {
    let set = VALUES.set();
    format!("UPDATE deliveries SET {set} FROM given WHERE {condition} RETURNING id, replay_id")
}

/// Deliveries that were changed, each with the replay job that it belongs to.
type Jobs = HashMap<DeliveryId, Option<ReplayId>>;

/// Writes reports in the caller's transaction, and returns the deliveries whose outcomes have taken effect. A caller that needs
/// the locks of circuits takes them first.
///
/// # Errors
/// When the database fails; then the transaction is of no use any more.
pub async fn write(
    tx: &Transaction,
    reports: &[Report<'_>],
    now: Timestamp,
) -> Result<HashSet<DeliveryId>, DbErr> {
    // Rows are locked in the order of their ids, as everywhere.
    let mut reports: Vec<&Report<'_>> = reports.iter().collect();
    reports.sort_unstable_by_key(|report| report.id());
    let mut jobs = update(tx, &reports, &UPDATE).await?;
    let late = late::settle(tx, &reports, &jobs).await?;
    let counts = |id: &DeliveryId| jobs.contains_key(id) || late.counted.contains_key(id);
    insert_attempts(tx, &reports, counts, ONCE).await?;
    let corrects = |id: &DeliveryId| late.corrected.contains_key(id);
    insert_attempts(tx, &reports, corrects, &late::REPLACE).await?;
    jobs.extend(late.corrected);
    // By the job in the row: another one may have replayed the delivery since it was loaded.
    let of_jobs = reports.iter().filter_map(|report| {
        let job = (*jobs.get(&report.id())?)?;
        Some((job, report.outcome.status()))
    });
    replay::count(tx, of_jobs, now).await?;
    Ok(jobs.into_keys().collect())
}

/// Runs an update with reports as `given`, and returns the deliveries that it changed.
async fn update(tx: &Transaction, reports: &[&Report<'_>], sql: &str) -> Result<Jobs, DbErr> {
    if reports.is_empty() {
        return Ok(Jobs::new());
    }
    let rows = reports.iter().map(|report| report.row()).collect();
    let statement = rows::given(tx.get_database_backend(), &GIVEN, rows, Vec::new(), sql)?;
    let updated = tx.query_all_raw(statement).await?;
    updated
        .iter()
        .map(|row| {
            let id = DeliveryId::try_get(row, "", "id")?;
            Ok((id, row.try_get("", "replay_id")?))
        })
        .collect()
}

/// An attempt that is recorded already stays as it is.
const ONCE: &str = "ON CONFLICT (delivery_id, number) DO NOTHING";

async fn insert_attempts(
    tx: &Transaction,
    reports: &[&Report<'_>],
    of: impl Fn(&DeliveryId) -> bool,
    on_conflict: &str,
) -> Result<(), DbErr> {
    let attempts: Vec<Attempt> = reports
        .iter()
        .filter(|report| of(&report.id()))
        .filter_map(|report| report.row_of_attempt())
        .collect();
    if attempts.is_empty() {
        return Ok(());
    }
    let backend = tx.get_database_backend();
    let statement = rows::insert::<attempt::Entity>(backend, &attempts, Vec::new(), on_conflict)?;
    tx.execute_raw(statement).await.map(|_| ())
}

impl Report<'_> {
    fn id(&self) -> DeliveryId {
        self.delivery.id
    }

    /// The row of [`GIVEN`].
    fn row(&self) -> Vec<Value> {
        let seen = self.delivery.attempt_count;
        let status = self.outcome.status();
        let reason = self.outcome.reason().map(|reason| reason.as_str());
        let class = self.error_class().map(|class| class.as_str());
        let finished = (status != Status::Pending).then_some(self.at);
        vec![
            self.id().into(),
            seen.into(),
            (seen + i32::from(self.attempt.is_some())).into(),
            status.as_str().into(),
            self.outcome.next_attempt_at().into(),
            reason.into(),
            class.into(),
            finished.into(),
            self.attempt.and_then(|ended| ended.token).into(),
        ]
    }

    /// Returns why the last attempt failed; the class of an earlier attempt stays when this time none was made.
    pub fn error_class(&self) -> Option<ErrorClass> {
        match self.attempt {
            Some(ended) => ended.result.err(),
            None => self.delivery.error_class,
        }
    }

    fn row_of_attempt(&self) -> Option<Attempt> {
        let ended = self.attempt?;
        Some(Attempt {
            delivery_id: self.id(),
            number: self.delivery.attempt_count + 1,
            id: AttemptId::generate(self.at),
            tenant_id: self.delivery.tenant_id,
            started_at: ended.started_at,
            duration_ms: ended.duration_ms,
            outcome: match ended.result {
                Ok(()) => AttemptOutcome::Delivered,
                Err(_) => AttemptOutcome::Failed,
            },
            error_class: ended.result.err(),
            http_status: ended.status,
            response_snippet: ended.snippet.map(str::to_owned),
            request_id: ended.request_id.to_owned(),
        })
    }
}
