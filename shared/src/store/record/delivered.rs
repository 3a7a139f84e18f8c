//! Deliveries that were delivered and of which nothing else follows, recorded in one statement of PostgreSQL: one round trip
//! and one commit.

use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

use sea_orm::{DbErr, IdenStatic as _, sqlx};
use uuid::Uuid;

use super::{
    Ended,
    columns::{DELIVERED_ATTEMPT, Values},
};
use crate::{
    circuit::RESTLESS,
    clock::Timestamp,
    db::Postgres,
    ids::{AttemptId, DeliveryId},
    store::{Delivery, load::AS_LOADED},
};

/// An attempt that has delivered.
#[derive(Clone, Copy, Debug)]
pub struct Delivered<'a> {
    /// The delivery as it was loaded.
    pub delivery: &'a Delivery,
    /// The attempt. Whatever its result says, it counts as delivered.
    pub attempt: Ended<'a>,
    /// The circuit that the attempt went through.
    pub circuit: Option<Uuid>,
    /// The time when it ended.
    pub at: Timestamp,
}

const VALUES: Values = Values {
    status: "'delivered'",
    attempt_count: "seen + 1",
    next_attempt_at: "NULL",
    reason: "NULL",
    error_class: "NULL",
    finished_at: "finished",
    dead_at: "NULL",
};

/// As [`write`](super::write) for a delivery that was delivered, and for those alone that no replay job counts and whose
/// circuit is at rest. Only a delivery that was changed gets its attempt.
static RECORD: LazyLock<String> = LazyLock::new(|| {
    let columns = DELIVERED_ATTEMPT.map(|(column, _)| column.as_str());
    let values = DELIVERED_ATTEMPT.map(|(_, value)| value);
    format!(
        "\
WITH given AS ( \
  SELECT * FROM UNNEST($1::uuid[], $2::int4[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::timestamptz[], $7::int4[], \
    $8::int4[], $9::text[], $10::text[], $11::uuid[]) \
    AS given(delivery_id, seen, finished, attempt, tenant, started, took, answer, snippet, request, circuit) \
), done AS ( \
  UPDATE deliveries SET {} FROM given WHERE {AS_LOADED} AND replay_id IS NULL \
    AND circuit <> ALL (ARRAY(SELECT id FROM circuits WHERE id = ANY($12) AND {RESTLESS})) RETURNING given.* \
), kept AS ( \
  INSERT INTO attempts ({}) SELECT {} FROM done \
) \
SELECT delivery_id FROM done",
        VALUES.set(),
        columns.join(", "),
        values.join(", "),
    )
});

/// The given rows, an array for each column.
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

impl<'a> Columns<'a> {
    fn of(reports: &[Delivered<'a>]) -> Self {
        // Rows are locked in this order: that of their ids, as everywhere.
        let mut reports: Vec<&Delivered<'a>> = reports.iter().collect();
        reports.sort_unstable_by_key(|report| report.delivery.id);
        let mut columns = Self::default();
        for Delivered {
            delivery,
            attempt,
            circuit,
            at,
        } in reports
        {
            columns.deliveries.push(delivery.id.uuid());
            columns.seen.push(delivery.attempt_count);
            columns.finished.push(*at);
            columns.attempts.push(AttemptId::generate(*at).uuid());
            columns.tenants.push(delivery.tenant_id.uuid());
            columns.started.push(attempt.started_at);
            columns.took.push(attempt.duration_ms);
            columns.answers.push(attempt.status);
            columns.snippets.push(attempt.snippet);
            columns.requests.push(attempt.request_id);
            columns.circuits.push(*circuit);
        }
        columns
    }
}

/// Records deliveries that were delivered and concern nothing but their own rows. Returns those that are recorded with that;
/// the others are for [`write`](super::write), which finds out what has become of them.
///
/// # Errors
/// When the database fails; then nothing is recorded, unless the connection was lost after it was.
pub async fn delivered(
    postgres: &Postgres,
    reports: &[Delivered<'_>],
) -> Result<HashSet<DeliveryId>, DbErr> {
    if reports.is_empty() {
        return Ok(HashSet::new());
    }
    let columns = Columns::of(reports);
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
