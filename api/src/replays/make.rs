//! Making jobs, and cancelling them. Carrying them out is the workers'.

use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    delivery::{ReplayKind, ReplayStatus},
    entities::replay::{self, Column},
    ids::{ReplayId, TenantId},
    replay::Selection,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::body::{ReplayJob, Row};
use crate::{
    Services,
    audit::{self, Action},
    auth::may::ForTenant,
    http::{ApiError, Code, to_bytes},
    idempotency::{Accepted, Once},
};

/// A job that is about to be made.
#[derive(Debug)]
pub(super) struct NewJob {
    pub(super) kind: ReplayKind,
    pub(super) selection: Selection,
    pub(super) rate_per_s: Option<u32>,
}

/// How many dead letters are selected now.
///
/// # Errors
/// When the database fails.
pub(super) async fn count(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    selection: &Selection,
    now: Timestamp,
) -> Result<u64, DbErr> {
    selection.dead_letters(tenant, now).count(db).await
}

/// Makes a job, with its entry in the audit log, and answers with it.
///
/// # Errors
/// When the database fails.
pub(super) async fn make(
    once: Once<'_>,
    caller: &ForTenant,
    job: NewJob,
) -> Result<Accepted, ApiError> {
    let (tx, now) = (once.tx(), once.now());
    let total = match &job.selection {
        // Those that are none, or another tenant's, are skipped later: the answer does not tell which is which.
        Selection::Ids(ids) => ids.len() as u64,
        selected => count(tx, caller.tenant, selected, now).await?,
    };
    let action = match job.kind {
        ReplayKind::Replay => Action::ReplayCreated,
        ReplayKind::Discard => Action::DiscardCreated,
        ReplayKind::Recover => Action::RecoverCreated,
    };
    let row = replay::Model {
        id: ReplayId::generate(now),
        tenant_id: caller.tenant,
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
        actor: caller.actor.to_string(),
        request_id: caller.request_id.to_string(),
        created_at: now,
        finished_at: None,
    };
    audit::record(tx, caller, action, row.id, now).await?;
    let body = to_bytes(&ReplayJob::from(Row::from(&row)))?;
    replay::Entity::insert(row.into_active_model())
        .exec_without_returning(tx)
        .await?;
    once.finish(body).await
}

/// Cancels a job: it releases nothing more. One that is cancelled already stays as it is.
///
/// # Errors
/// 404 when there is no such job, 409 when it was completed.
pub(super) async fn cancel(
    services: &Services,
    caller: &ForTenant,
    id: ReplayId,
) -> Result<Row, ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    // Waits for a step that is under way; the next one finds nothing to do.
    let cancelled = replay::Entity::update_many()
        .col_expr(Column::Status, Expr::value(ReplayStatus::Cancelled))
        .col_expr(Column::NextAt, Expr::value(Option::<Timestamp>::None))
        .col_expr(Column::FinishedAt, Expr::value(now))
        .filter(Column::TenantId.eq(caller.tenant))
        .filter(Column::Id.eq(id))
        .filter(Column::Status.eq(ReplayStatus::Running))
        .exec(&tx)
        .await?;
    if cancelled.rows_affected > 0 {
        audit::record(&tx, caller, Action::ReplayCancelled, id, now).await?;
    }
    let row = find(&tx, caller.tenant, id).await?;
    tx.commit().await?;
    match row.status {
        ReplayStatus::Completed => Err(ApiError::new(
            Code::AlreadyCompleted,
            "everything that it released has ended",
        )),
        ReplayStatus::Running | ReplayStatus::Cancelled => Ok(row),
    }
}

/// A tenant's job.
///
/// # Errors
/// 404 when there is none.
pub(super) async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: ReplayId,
) -> Result<Row, ApiError> {
    Row::of_tenant(tenant)
        .filter(Column::Id.eq(id))
        .into_model()
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("replay job"))
}
