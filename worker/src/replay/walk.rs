//! The next batch of what a job selects.

use relaypost_shared::{
    clock::Timestamp,
    replay::Selection,
    store::{Replay, replay},
};
use sea_orm::{ConnectionTrait, DbErr};

use super::{Batch, missed};

/// Releases up to `most` deliveries, at least 1, and moves the job's cursor.
pub(super) async fn release(
    tx: &impl ConnectionTrait,
    job: &mut Replay,
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
    job: &mut Replay,
    most: u64,
    now: Timestamp,
) -> Result<Batch, DbErr> {
    let walked = replay::dead_letters(tx, job, most, now).await?;
    Ok(Batch {
        released: walked.changed,
        found: 0,
        complete: walked.complete,
    })
}
