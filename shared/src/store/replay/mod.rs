//! The rows of replay jobs, and the steps that a job makes.
//!
//! Guarantee: a step takes the job's row with its lock, so that one worker works on a job at a time, and everything that the
//! next step needs is in the row. A step is one transaction: it happens as a whole or, when the process is killed, not at
//! all. A job that was cancelled has no next step.
//!
//! Transitions: `replayed` and `discarded` ([`change`]), `accepted` ([`missed`]).

mod change;
pub mod missed;
mod progress;
mod select;
mod walk;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, FromQueryResult, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
    sea_query::{LockBehavior, LockType},
};

use super::schema::replay::{ActiveModel, Column, Entity, Model};
use crate::{
    clock::Timestamp,
    delivery::{ReplayKind, ReplayStatus},
    ids::ReplayId,
};

pub use change::{discarding, reviving};
pub use progress::{count, take_back_dead};
pub use walk::{Walked, dead_letters};

/// A job whose next step is due.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub struct Due {
    /// The job.
    pub id: ReplayId,
    /// The kind of change that it makes.
    pub kind: ReplayKind,
    /// How many deliveries it releases a second, if its maker said so.
    pub rate_per_s: Option<i32>,
}

/// Finds up to `most` jobs whose next step is due, the longest due first.
///
/// # Errors
/// When the database fails.
pub async fn due(db: &impl ConnectionTrait, most: u64, now: Timestamp) -> Result<Vec<Due>, DbErr> {
    Entity::find()
        .select_only()
        .columns([Column::Id, Column::Kind, Column::RatePerS])
        .filter(Column::NextAt.lte(now))
        .order_by_asc(Column::NextAt)
        .limit(most)
        .into_model()
        .all(db)
        .await
}

/// Takes a job's row with its lock, until the transaction ends. None when another worker has it, or it is not due any more.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    tx: &impl ConnectionTrait,
    id: ReplayId,
    now: Timestamp,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id)
        .filter(Column::Status.eq(ReplayStatus::Running))
        .filter(Column::NextAt.lte(now))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(tx)
        .await
}

/// Writes down how far a job is that [`claim`] gave out. `delivered` and `dead` are left to [`count`], and the job's
/// selection, kind and pace stay.
///
/// # Errors
/// When the database fails.
pub async fn save(tx: &impl ConnectionTrait, job: Model) -> Result<(), DbErr> {
    let changes = ActiveModel {
        status: Set(job.status),
        total: Set(job.total),
        released: Set(job.released),
        skipped: Set(job.skipped),
        cursor: Set(job.cursor),
        message_cursor: Set(job.message_cursor),
        paced_from: Set(job.paced_from),
        paced_count: Set(job.paced_count),
        next_at: Set(job.next_at),
        finished_at: Set(job.finished_at),
        ..Default::default()
    };
    Entity::update_many()
        .set(changes)
        .filter(Column::Id.eq(job.id))
        .exec(tx)
        .await
        .map(|_| ())
}
