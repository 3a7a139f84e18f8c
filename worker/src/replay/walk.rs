//! The next batch of what a job selects.

use relaypost_shared::{
    clock::Timestamp,
    delivery::ReplayKind,
    entities::{
        delivery::{self, Column},
        replay,
    },
    ids::DeliveryId,
    replay::{Selection, discarding, reviving},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, QueryFilter as _, QueryOrder as _, QuerySelect as _,
    QueryTrait as _,
};

use super::{Batch, missed};

/// Releases up to `most` deliveries, at least 1, and moves the job's cursor.
pub(super) async fn release(
    tx: &impl ConnectionTrait,
    job: &mut replay::Model,
    most: u64,
    now: Timestamp,
) -> Result<Batch, DbErr> {
    let Selection::Missed(window) = job.selection else {
        return dead_letters(tx, job, most, now).await;
    };
    let Some(endpoint) = missed::endpoint(tx, job.tenant_id, &window).await? else {
        // Deleted or disabled since: whatever is released to it would only die again.
        return Ok(Batch {
            complete: true,
            ..Batch::default()
        });
    };
    if job.message_cursor.is_some() {
        return missed::messages(tx, job, &endpoint, &window, most, now).await;
    }
    let batch = dead_letters(tx, job, most, now).await?;
    if batch.complete {
        job.message_cursor = Some(missed::BEGINNING);
    }
    Ok(Batch {
        complete: false,
        ..batch
    })
}

async fn dead_letters(
    tx: &impl ConnectionTrait,
    job: &mut replay::Model,
    most: u64,
    now: Timestamp,
) -> Result<Batch, DbErr> {
    let ahead = ahead(job, most);
    // Locked in the order of their ids, as every other job does: two of them cannot wait for each other.
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
    let released = match found.is_empty() {
        true => 0,
        false => {
            let change = change.filter(delivery::Column::Id.is_in(found));
            change.exec(tx).await?.rows_affected
        }
    };
    Ok(Batch {
        released,
        found: 0,
        complete: (looked_at as u64) < most,
    })
}

/// The part of the selection that a batch looks at: of a list of ids the next ones.
fn ahead(job: &replay::Model, most: u64) -> Selection {
    match &job.selection {
        Selection::Ids(ids) => {
            let from = ids.partition_point(|id| job.cursor.is_some_and(|cursor| *id <= cursor));
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            Selection::Ids(ids[from..].iter().copied().take(most).collect())
        }
        other => other.clone(),
    }
}
