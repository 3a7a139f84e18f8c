//! The statements that set, renew and clear marks.

use std::{collections::HashSet, sync::Arc};

use relaypost_shared::{
    clock::Clock,
    db::{
        Database,
        rows::{self, Column, Kind},
    },
    ids::DeliveryId,
};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, TryGetable as _, Value};
use uuid::Uuid;

/// Columns of the rows that the statements join with.
const GIVEN: [Column; 3] = [
    Column::new("delivery_id", Kind::Uuid),
    Column::new("seen", Kind::Integer),
    Column::new("token", Kind::Uuid),
];

/// Only a delivery that is still as it was loaded is marked, and only if no other attempt has marked it. Marking it again
/// with the same token renews the mark.
const MARK: &str = "FROM given WHERE id = delivery_id AND attempt_count = seen AND status = 'pending' \
     AND (sending_token IS NULL OR sending_token = token) RETURNING id";

const CLEAR: &str = "UPDATE deliveries SET sending_token = NULL, sending_at = NULL \
     FROM given WHERE id = delivery_id AND attempt_count = seen AND sending_token = token RETURNING id";

/// A change of a mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) delivery: DeliveryId,
    pub(super) seen: i32,
    pub(super) token: Uuid,
    pub(super) to: Mark,
}

/// What becomes of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Set, or renewed.
    Set,
    Cleared,
}

/// Writes changes, and answers each with whether its delivery was changed.
pub(super) async fn apply(
    db: &Database,
    clock: &Clock,
    batch: &[Change],
) -> Vec<Result<bool, Arc<DbErr>>> {
    // First what is set: a mark that is taken back was asked for earlier.
    let set = write(db, clock, batch, Mark::Set).await.map_err(Arc::new);
    let cleared = write(db, clock, batch, Mark::Cleared)
        .await
        .map_err(Arc::new);
    let answer = |change: &Change| {
        let written = match change.to {
            Mark::Set => &set,
            Mark::Cleared => &cleared,
        };
        match written {
            Ok(written) => Ok(written.contains(&change.delivery)),
            Err(error) => Err(error.clone()),
        }
    };
    batch.iter().map(answer).collect()
}

/// Writes the changes of one kind and returns the deliveries that were changed.
async fn write(
    db: &Database,
    clock: &Clock,
    batch: &[Change],
    to: Mark,
) -> Result<HashSet<DeliveryId>, DbErr> {
    let mut changes: Vec<&Change> = batch.iter().filter(|change| change.to == to).collect();
    if changes.is_empty() {
        return Ok(HashSet::new());
    }
    // Rows are locked in the order of their ids, as everywhere.
    changes.sort_unstable_by_key(|change| change.delivery);
    let rows = changes.iter().map(|change| {
        vec![
            change.delivery.into(),
            change.seen.into(),
            change.token.into(),
        ]
    });
    let backend = db.get_database_backend();
    let (statement, first) = match (to, backend) {
        (Mark::Cleared, _) => (CLEAR.to_owned(), Vec::new()),
        // PostgreSQL's time, which all workers agree on. An SQLite database is of this machine, and so is its time.
        (Mark::Set, DbBackend::Postgres) => (marking("now()"), Vec::new()),
        (Mark::Set, _) => (marking("$1"), vec![Value::from(clock.now())]),
    };
    let statement = rows::given(backend, &GIVEN, rows.collect(), first, &statement)?;
    let written = db.query_all_raw(statement).await?;
    written
        .iter()
        .map(|row| DeliveryId::try_get(row, "", "id"))
        .collect::<Result<_, _>>()
        .map_err(Into::into)
}

fn marking(now: &str) -> String {
    format!("UPDATE deliveries SET sending_token = token, sending_at = {now} {MARK}")
}
