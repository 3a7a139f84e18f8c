//! Makes and cancels jobs over many dead letters: those that replay, those that discard, and those that recover what an
//! endpoint has missed. Workers carry them out.
//!
//! No transition: a job changes deliveries only when a worker takes a step of it. When the caller has committed a new job,
//! workers find it, whatever is killed. When it has committed a cancellation, the job releases nothing more, and what it
//! has released before is still counted.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{
    read::replays::{self, Progress},
    schema::replay::{Column, Entity, Model},
};
use crate::{
    clock::Timestamp,
    db::Transaction,
    delivery::{ReplayKind, ReplayStatus},
    ids::{ReplayId, TenantId},
    replay::Selection,
};

/// A job to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    /// The tenant whose deliveries it is about.
    pub tenant: TenantId,
    /// What it does.
    pub kind: ReplayKind,
    /// What it selects.
    pub selection: Selection,
    /// The number of deliveries that it releases a second; none: as many as the workers take.
    pub rate_per_s: Option<u32>,
    /// Who makes it: the id of an API key, or `platform`.
    pub actor: String,
    /// The request that makes it.
    pub request_id: String,
}

/// A job after a cancellation was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The job as it is now. Unless it is cancelled, it was completed before.
    pub job: Progress,
    /// Whether this call has cancelled it.
    pub changed: bool,
}

/// The number of dead letters that a selection has now.
///
/// # Errors
/// When the database fails.
pub async fn count(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    selection: &Selection,
    now: Timestamp,
) -> Result<u64, DbErr> {
    selection.dead_letters(tenant, now).count(db).await
}

/// Makes a job, whose first step is due at once.
///
/// # Errors
/// When the database fails.
pub async fn make(tx: &Transaction, job: NewJob, now: Timestamp) -> Result<Progress, DbErr> {
    let total = match &job.selection {
        // Those that are none, or another tenant's, are skipped later: the answer does not tell which is which.
        Selection::Ids(ids) => ids.len() as u64,
        selected => count(tx, job.tenant, selected, now).await?,
    };
    let row = Model {
        id: ReplayId::generate(now),
        tenant_id: job.tenant,
        kind: job.kind,
        status: ReplayStatus::Running,
        selection: job.selection,
        rate_per_s: job.rate_per_s.map(u32::cast_signed),
        total: i32::try_from(total).unwrap_or(i32::MAX),
        released: 0,
        skipped: 0,
        delivered: 0,
        dead: 0,
        cursor: None,
        message_cursor: None,
        paced_from: now,
        paced_count: 0,
        next_at: Some(now),
        actor: job.actor,
        request_id: job.request_id,
        created_at: now,
        finished_at: None,
    };
    let made = Progress::from(&row);
    Entity::insert(row.into_active_model())
        .exec_without_returning(tx)
        .await?;
    Ok(made)
}

/// Cancels a tenant's job that is running, after the step that a worker may be taking has ended. One that is cancelled or
/// completed stays as it is. None when there is no such job.
///
/// # Errors
/// When the database fails.
pub async fn cancel(
    tx: &Transaction,
    tenant: TenantId,
    id: ReplayId,
    now: Timestamp,
) -> Result<Option<Stopped>, DbErr> {
    // Waits for a step that is under way; the next one finds nothing to do.
    let cancelled = Entity::update_many()
        .col_expr(Column::Status, Expr::value(ReplayStatus::Cancelled))
        .col_expr(Column::NextAt, Expr::value(Option::<Timestamp>::None))
        .col_expr(Column::FinishedAt, Expr::value(now))
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::Id.eq(id))
        .filter(Column::Status.eq(ReplayStatus::Running))
        .exec(tx)
        .await?;
    let changed = cancelled.rows_affected > 0;
    let job = replays::find(tx, tenant, id).await?;
    Ok(job.map(|job| Stopped { job, changed }))
}
