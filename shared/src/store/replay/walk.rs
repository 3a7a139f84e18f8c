//! Walks over the dead letters that a job selects, a batch at a time, from the oldest to the newest.
//!
//! Guarantee: a dead letter is changed by one job, and once: what has left the dead-letter queue meanwhile is passed over.
//! Two jobs lock their deliveries in one order, so that they cannot wait for each other.
//!
//! Transitions: `replayed` (dead → pending), `discarded` (dead → discarded).

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    QueryTrait as _,
};

use super::{discarding, reviving};
use crate::{
    clock::Timestamp,
    delivery::ReplayKind,
    ids::DeliveryId,
    replay::Selection,
    store::{Replay, schema::delivery::Column},
};

/// The result of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// How many dead letters were replayed or discarded.
    pub changed: u64,
    /// Whether none is left behind the job's cursor.
    pub complete: bool,
}

/// Replays or discards up to `most` dead letters, at least 1, and moves the job's cursor, which its caller saves.
///
/// # Errors
/// When the database fails.
pub async fn dead_letters(
    tx: &impl ConnectionTrait,
    job: &mut Replay,
    most: u64,
    now: Timestamp,
) -> Result<Walked, DbErr> {
    let ahead = ahead(job, most);
    let found: Vec<DeliveryId> = ahead
        .dead_letters(job.tenant_id, job.created_at)
        .select_only()
        .column(Column::Id)
        .apply_if(job.cursor, |found, cursor| {
            found.filter(Column::Id.gt(cursor))
        })
        .order_by_asc(Column::Id)
        .limit(most)
        .lock_exclusive()
        .into_tuple()
        .all(tx)
        .await?;
    let (looked_at, last) = match &ahead {
        Selection::Ids(ids) => (ids.len(), ids.last()),
        Selection::Filter(_) | Selection::Missed(_) => (found.len(), found.last()),
    };
    job.cursor = last.copied().or(job.cursor);
    let change = match job.kind {
        ReplayKind::Discard => discarding(),
        ReplayKind::Replay | ReplayKind::Recover => reviving(now, Some(job.id)),
    };
    let changed = match found.is_empty() {
        true => 0,
        false => {
            let change = change.filter(Column::Id.is_in(found));
            change.exec(tx).await?.rows_affected
        }
    };
    Ok(Walked {
        changed,
        complete: (looked_at as u64) < most,
    })
}

/// The part of the selection that a batch looks at: of a list of ids the next ones.
fn ahead(job: &Replay, most: u64) -> Selection {
    match &job.selection {
        Selection::Ids(ids) => {
            let from = ids.partition_point(|id| job.cursor.is_some_and(|cursor| *id <= cursor));
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            Selection::Ids(ids[from..].iter().copied().take(most).collect())
        }
        other => other.clone(),
    }
}
