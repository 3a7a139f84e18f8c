//! Step 5: write the outcomes of a slice of deliveries, with their attempts, in one transaction.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use relaypost_shared::{
    clock::Timestamp,
    db::{self, Rows},
    delivery::{AttemptOutcome, ErrorClass, Outcome, Status},
    entities::{attempt, delivery},
    ids::{AttemptId, DeliveryId, ReplayId},
    replay,
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, Statement, TryGetable,
    sea_query::OnConflict,
};

use crate::send::Attempted;

/// A decided delivery, to be written down.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The delivery as it was loaded.
    pub delivery: delivery::Model,
    /// The attempt, where there was one.
    pub attempted: Option<Attempted>,
    /// What it means for the delivery.
    pub outcome: Outcome,
    /// When it was decided.
    pub at: Timestamp,
    /// The request that made the delivery, for the attempt's row.
    pub request_id: String,
}

/// Columns of the rows that the update joins with.
const GIVEN: &str = "delivery_id, seen, attempts, new_status, next_at, why, class, finished";

/// Only a delivery that is still as it was loaded is changed: when two workers had the same one, the first result
/// counts and the second changes nothing.
const UPDATE: &str = "UPDATE deliveries SET status = new_status, attempt_count = attempts, next_attempt_at = next_at, \
     dispatch_at = next_at, reason = why, error_class = class, finished_at = finished, \
     dead_at = CASE new_status WHEN 'dead' THEN finished END \
     FROM given WHERE id = delivery_id AND attempt_count = seen AND status = 'pending' RETURNING id, replay_id";

/// Writes the slice down and returns the deliveries whose outcome took effect.
///
/// # Errors
/// When the database fails; then nothing of the slice is written.
pub async fn record(
    db: &DatabaseConnection,
    slice: &[Recorded],
) -> Result<HashSet<DeliveryId>, DbErr> {
    let transaction = db::begin_write(db).await?;
    let rows = Rows::new(GIVEN, slice.iter().map(Recorded::row));
    let (sql, params) = rows.with(Vec::new(), UPDATE);
    let statement = Statement::from_sql_and_values(transaction.get_database_backend(), sql, params);
    let updated = transaction.query_all_raw(statement).await?;
    let mut jobs = HashMap::with_capacity(updated.len());
    for row in &updated {
        let id = DeliveryId::try_get(row, "", "id")?;
        jobs.insert(id, row.try_get::<Option<ReplayId>>("", "replay_id")?);
    }
    let attempts: Vec<attempt::ActiveModel> = slice
        .iter()
        .filter_map(Recorded::attempt)
        .map(Into::into)
        .collect();
    if !attempts.is_empty() {
        let once = [attempt::Column::DeliveryId, attempt::Column::Number];
        attempt::Entity::insert_many(attempts)
            .on_conflict(OnConflict::columns(once).do_nothing().to_owned())
            .exec_without_returning(&transaction)
            .await?;
    }
    // By the job in the row: another one may have replayed the delivery since it was loaded.
    let ended = slice.iter().filter_map(|one| {
        let job = (*jobs.get(&one.delivery.id)?)?;
        Some((job, one.outcome.status()))
    });
    if let Some(at) = slice.iter().map(|one| one.at).max() {
        replay::count(&transaction, ended, at).await?;
    }
    transaction.commit().await?;
    Ok(jobs.into_keys().collect())
}

impl Recorded {
    fn row(&self) -> Vec<sea_orm::Value> {
        let status = self.outcome.status();
        let seen = self.delivery.attempt_count;
        let attempts = seen + i32::from(self.attempted.is_some());
        let finished = (status != Status::Pending).then_some(self.at);
        vec![
            self.delivery.id.into(),
            seen.into(),
            attempts.into(),
            status.as_str().into(),
            self.outcome.next_attempt_at().into(),
            self.outcome
                .reason()
                .map(|reason| reason.as_str().to_owned())
                .into(),
            self.error_class()
                .map(|class| class.as_str().to_owned())
                .into(),
            finished.into(),
        ]
    }

    /// Why the last attempt failed; the class of an earlier attempt stays when this time none was made.
    fn error_class(&self) -> Option<ErrorClass> {
        match &self.attempted {
            Some(attempted) => attempted.result.as_ref().err().map(|failure| failure.class),
            None => self.delivery.error_class,
        }
    }

    fn attempt(&self) -> Option<attempt::Model> {
        let attempted = self.attempted.as_ref()?;
        let (outcome, class, status, snippet) = match &attempted.result {
            Ok(success) => (
                AttemptOutcome::Delivered,
                None,
                success.status,
                success.snippet.clone(),
            ),
            Err(failure) => (
                AttemptOutcome::Failed,
                Some(failure.class),
                failure.status,
                failure.snippet.clone(),
            ),
        };
        Some(attempt::Model {
            delivery_id: self.delivery.id,
            number: self.delivery.attempt_count + 1,
            id: AttemptId::generate(self.at),
            tenant_id: self.delivery.tenant_id,
            started_at: attempted.started_at,
            duration_ms: i32::try_from(attempted.duration.as_millis()).unwrap_or(i32::MAX),
            outcome,
            error_class: class,
            http_status: status.map(i32::from),
            response_snippet: snippet,
            request_id: self.request_id.clone(),
        })
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.delivery.id, self.outcome.name())
    }
}
