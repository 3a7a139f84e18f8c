//! What was delivered without further ado, recorded in one statement of PostgreSQL: one round trip and one commit.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, LazyLock},
};

use relaypost_shared::{
    circuit::RESTLESS,
    clock::Timestamp,
    db::Postgres,
    ids::{AttemptId, DeliveryId},
};
use sea_orm::{DbErr, sqlx};
use uuid::Uuid;

use super::Recorded;

/// As the statements of [`super::record`] for a delivery that was delivered, and for those alone that no replay job counts and
/// whose circuit is at rest: only a delivery that is still as it was loaded is changed, and only then its
/// attempt is stored.
static RECORD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "\
WITH given AS ( \
  SELECT * FROM UNNEST($1::uuid[], $2::int4[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::int4[], \
    $8::int4[], $9::text[], $10::text[], $11::uuid[]) \
    AS given(delivery, seen, finished, attempt, tenant, started, took, answer, snippet, request, circuit) \
), done AS ( \
  UPDATE deliveries SET status = 'delivered', attempt_count = seen + 1, next_attempt_at = NULL, dispatch_at = NULL, \
    reason = NULL, error_class = NULL, finished_at = finished, parked_for = NULL, dead_at = NULL, \
    sending_token = NULL, sending_at = NULL \
  FROM given WHERE id = delivery AND attempt_count = seen AND status = 'pending' AND replay_id IS NULL \
    AND circuit <> ALL (ARRAY(SELECT id FROM circuits WHERE id = ANY($12) AND {RESTLESS})) RETURNING given.* \
), kept AS ( \
  INSERT INTO attempts (delivery_id, number, id, tenant_id, started_at, duration_ms, outcome, http_status, response_snippet, request_id) \
  SELECT delivery, seen + 1, attempt, tenant, started, took, 'delivered', answer, snippet, request \
  FROM done \
) \
SELECT delivery FROM done"
    )
});

/// The columns of a slice.
#[derive(Default)]
struct Columns<'a> {
    deliveries: Vec<Uuid>,
    seen: Vec<i32>,
    finished: Vec<Timestamp>,
    attempts: Vec<Uuid>,
    tenants: Vec<Uuid>,
    started: Vec<Timestamp>,
    took: Vec<i32>,
    answers: Vec<Option<i32>>,
    snippets: Vec<Option<&'a str>>,
    requests: Vec<&'a str>,
    circuits: Vec<Option<Uuid>>,
}

/// Writes down those of a slice that were delivered, have an attempt and concern nothing but their own rows; returns the
/// deliveries that are written down with that. What is left is for [`super::record`].
///
/// # Errors
/// When the database fails; then nothing is written, unless the connection was lost after it was.
pub(super) async fn record_delivered(
    postgres: &Postgres,
    slice: &[Arc<Recorded>],
) -> Result<HashSet<DeliveryId>, DbErr> {
    let troubled = super::troubled(slice);
    let mut columns = Columns::default();
    // Rows are locked in this order: that of their ids, as where many are changed.
    let mut slice: Vec<&Recorded> = slice.iter().map(Arc::as_ref).collect();
    slice.sort_unstable_by_key(|recorded| recorded.id());
    for recorded in slice {
        let plain = recorded.is_plain()
            && recorded
                .told()
                .all(|told| !troubled.contains(&told.report.circuit));
        if let Some(attempted) = recorded.attempted.as_ref().filter(|_| plain)
            && let Ok(success) = &attempted.result
        {
            columns.deliveries.push(recorded.id().uuid());
            columns.seen.push(recorded.delivery().attempt_count);
            columns.finished.push(recorded.at);
            columns
                .attempts
                .push(AttemptId::generate(recorded.at).uuid());
            columns.tenants.push(recorded.delivery().tenant_id.uuid());
            columns.started.push(attempted.started_at);
            columns.took.push(attempted.millis());
            columns.answers.push(success.status.map(i32::from));
            columns.snippets.push(success.snippet.as_deref());
            columns.requests.push(recorded.loaded.request_id());
            let mut told = recorded.told();
            columns
                .circuits
                .push(told.next().map(|told| told.report.circuit));
        }
    }
    if columns.deliveries.is_empty() {
        return Ok(HashSet::new());
    }
    let circuits: BTreeSet<Uuid> = columns.circuits.iter().flatten().copied().collect();
    let circuits: Vec<Uuid> = circuits.into_iter().collect();
    let record = sqlx::query_scalar(RECORD.as_str())
        .bind(columns.deliveries)
        .bind(columns.seen)
        .bind(columns.finished)
        .bind(columns.attempts)
        .bind(columns.tenants)
        .bind(columns.started)
        .bind(columns.took)
        .bind(columns.answers)
        .bind(columns.snippets)
        .bind(columns.requests)
        .bind(columns.circuits)
        .bind(circuits);
    let done: Vec<Uuid> = postgres
        .run(async |pool| record.fetch_all(pool).await)
        .await?;
    Ok(done.into_iter().map(DeliveryId::from_uuid).collect())
}
