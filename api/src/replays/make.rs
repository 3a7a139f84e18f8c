//! Making jobs, and cancelling them. Carrying them out is the workers'.

use relaypost_shared::{
    db::begin_write,
    delivery::{ReplayKind, ReplayStatus},
    ids::ReplayId,
    replay::Selection,
    store::{self, read::replays::Progress},
};

use super::{body::ReplayJob, not_found};
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
    let action = match job.kind {
        ReplayKind::Replay => Action::ReplayCreated,
        ReplayKind::Discard => Action::DiscardCreated,
        ReplayKind::Recover => Action::RecoverCreated,
    };
    let job = store::replay_jobs::NewJob {
        tenant: caller.tenant,
        kind: job.kind,
        selection: job.selection,
        rate_per_s: job.rate_per_s,
        actor: caller.actor.to_string(),
        request_id: caller.request_id.to_string(),
    };
    let made = store::replay_jobs::make(tx, job, now).await?;
    audit::record(tx, caller, action, made.id, now).await?;
    once.finish(to_bytes(&ReplayJob::from(made))?).await
}

/// Cancels a job: it releases nothing more. One that is cancelled already stays as it is.
///
/// # Errors
/// 404 when there is no such job, 409 when it was completed.
pub(super) async fn cancel(
    services: &Services,
    caller: &ForTenant,
    id: ReplayId,
) -> Result<Progress, ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let stopped = store::replay_jobs::cancel(&tx, caller.tenant, id, now).await?;
    let stopped = stopped.ok_or_else(not_found)?;
    if stopped.changed {
        audit::record(&tx, caller, Action::ReplayCancelled, id, now).await?;
    }
    tx.commit().await?;
    match stopped.job.status {
        ReplayStatus::Completed => Err(ApiError::new(
            Code::AlreadyCompleted,
            "everything that it released has ended",
        )),
        ReplayStatus::Running | ReplayStatus::Cancelled => Ok(stopped.job),
    }
}
