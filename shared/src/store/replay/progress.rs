//! Counts the ends of the deliveries that replay jobs released.
//!
//! Guarantee: **a delivery is counted when it stops being pending, by the job that its row names then, in the transaction
//! that ends it.** That is enough for no job to wait for ever: whatever happens to a delivery afterwards (replayed by another
//! job or by hand, discarded) needs a dead one, and a dead one has been counted. A process that is killed leaves both, end
//! and count, or neither.
//!
//! No transition of a delivery is made here: its callers make those that end one.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DbErr, Statement};

use crate::{clock::Timestamp, delivery::Status, ids::ReplayId};

/// Adds to the counts, and completes the job whose last delivery this was. The conditions see the counts as they were.
const UPDATE: &str = "UPDATE replays SET delivered = delivered + $1, dead = dead + $2, \
     status = CASE WHEN status = 'running' AND next_at IS NULL AND delivered + dead + $3 = released \
         THEN 'completed' ELSE status END, \
     finished_at = CASE WHEN status = 'running' AND next_at IS NULL AND delivered + dead + $3 = released \
         THEN $4 ELSE finished_at END \
     WHERE id = $5";

/// One delivery of a job is not dead after all.
const TAKE_BACK: &str = "UPDATE replays SET dead = dead - 1 WHERE id = $1 AND dead > 0";

/// Counts deliveries that have just stopped being pending: each with the job in its row and the status that it has now.
/// A pending one is left out. One statement for each job, the jobs in one order everywhere, so that two transactions
/// cannot wait for each other.
///
/// # Errors
/// When the database fails.
pub async fn count(
    tx: &impl ConnectionTrait,
    ended: impl IntoIterator<Item = (ReplayId, Status)>,
    now: Timestamp,
) -> Result<(), DbErr> {
    let mut jobs: BTreeMap<ReplayId, (i32, i32)> = BTreeMap::new();
    for (job, status) in ended {
        match status {
            Status::Pending => {}
            Status::Delivered => jobs.entry(job).or_default().0 += 1,
            // Nobody gets it any more, whatever that is called.
            Status::Dead | Status::Discarded => jobs.entry(job).or_default().1 += 1,
        }
    }
    for (job, (delivered, dead)) in jobs {
        let params = [
            delivered.into(),
            dead.into(),
            (delivered + dead).into(),
            now.into(),
            job.into(),
        ];
        let backend = tx.get_database_backend();
        tx.execute_raw(Statement::from_sql_and_values(backend, UPDATE, params))
            .await?;
    }
    Ok(())
}

/// Takes back that deliveries of these jobs were counted as dead: it turned out that they have another end, or none yet. The
/// caller counts that with [`count`].
///
/// # Errors
/// When the database fails.
pub async fn take_back_dead(
    tx: &impl ConnectionTrait,
    jobs: impl IntoIterator<Item = ReplayId>,
) -> Result<(), DbErr> {
    let mut jobs: Vec<ReplayId> = jobs.into_iter().collect();
    // In the order in which they are counted.
    jobs.sort_unstable();
    for job in jobs {
        let backend = tx.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, TAKE_BACK, [job.into()]);
        tx.execute_raw(statement).await?;
    }
    Ok(())
}
