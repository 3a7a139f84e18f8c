//! Jobs over many dead letters: replaying them at a pace, discarding them, and recovering what an endpoint has missed.

mod answer;
mod body;
mod make;
mod recover;
mod selection;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    delivery::ReplayKind,
    ids,
    store::{read, replay_jobs},
};

use self::{
    answer::{Made, MadeOrCounted},
    body::{Count, ReplayJob},
    make::{NewJob, cancel, make},
    recover::RecoverEndpoint,
    selection::{NewDiscard, NewReplay},
};
use crate::{
    Services,
    auth::{
        Authorized,
        may::{self, ForTenant},
    },
    http::{
        ApiError, Cursor, FailsWith, Limit, Page, Paging, Queued, Ref, Reply, StrictJson, Text,
        document::Tag, failures,
    },
    idempotency::{Begun, IdempotencyKey, Keyed, Once, SafeToRepeat},
};

failures! {
    /// The endpoint is disabled and takes no deliveries; resume it first.
    EndpointDisabled = EndpointDisabled;
    /// Everything that the job released has ended.
    AlreadyCompleted = AlreadyCompleted;
}

/// The operations on jobs, and those that make them.
#[derive(Debug)]
pub(crate) struct ReplaysApi;

#[OpenApi]
impl ReplaysApi {
    /// Replay many dead letters
    ///
    /// Webhooks and emails alike, each with the same `webhook-id` and a whole retry schedule anew, beside the live traffic
    /// and at the pace of `rate_per_s`. What is no dead letter any more when its turn comes is skipped, so that two jobs
    /// over the same dead letters send each once; what dies after the job was made is left alone. With `dry_run` nothing
    /// is sent: the answer is how many it would be.
    #[oai(
        path = "/v1/dlq/replay",
        method = "post",
        operation_id = "dlq_replay",
        tag = "Tag::DeadLetters"
    )]
    async fn replay(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        key: IdempotencyKey,
        mut body: StrictJson<NewReplay>,
    ) -> Result<MadeOrCounted, ApiError> {
        let job = NewJob {
            kind: ReplayKind::Replay,
            selection: body.value.check()?,
            rate_per_s: body.value.rate_per_s,
        };
        let keyed = key.of("POST /v1/dlq/replay", &body.bytes);
        let dry_run = body.value.dry_run.unwrap_or(false);
        make_or_count(services, &caller, keyed, job, dry_run).await
    }

    /// Discard many dead letters
    ///
    /// They leave the queue for good, undelivered. What is no dead letter any more when its turn comes is skipped. With
    /// `dry_run` nothing is discarded: the answer is how many it would be.
    #[oai(
        path = "/v1/dlq/discard",
        method = "post",
        operation_id = "dlq_discard",
        tag = "Tag::DeadLetters"
    )]
    async fn discard(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        key: IdempotencyKey,
        mut body: StrictJson<NewDiscard>,
    ) -> Result<MadeOrCounted, ApiError> {
        let job = NewJob {
            kind: ReplayKind::Discard,
            selection: body.value.check()?,
            rate_per_s: None,
        };
        let keyed = key.of("POST /v1/dlq/discard", &body.bytes);
        let dry_run = body.value.dry_run.unwrap_or(false);
        make_or_count(services, &caller, keyed, job, dry_run).await
    }

    /// Recover what an endpoint has missed
    ///
    /// Of the messages of a span of time it is sent those that died, and those that it wants and never got: because it was
    /// disabled or did not exist yet. What was delivered is not sent again. They do not delay live webhooks. An endpoint
    /// that is disabled is 409 `endpoint_disabled`.
    #[oai(
        path = "/v1/endpoints/:endpoint_id/recover",
        method = "post",
        operation_id = "endpoints_recover",
        tag = "Tag::Endpoints"
    )]
    async fn recover(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The endpoint.
        endpoint_id: Path<Ref<ids::Endpoint>>,
        key: IdempotencyKey,
        body: StrictJson<RecoverEndpoint>,
    ) -> Result<Made, FailsWith<EndpointDisabled>> {
        body.value.check(services.clock.now())?;
        let endpoint = endpoint_id.0.0;
        let operation = format!("POST /v1/endpoints/{endpoint}/recover");
        let keyed = key.of(&operation, &body.bytes);
        match Once::begin(services, caller.tenant, keyed).await? {
            Begun::Done(accepted) => Ok(Made(accepted)),
            Begun::Work(once) => Ok(Made(body.value.make(once, &caller, endpoint).await?)),
        }
    }

    /// List replay jobs
    ///
    /// Those that discard and those that recover too.
    #[oai(
        path = "/v1/replays",
        method = "get",
        operation_id = "replays_list",
        tag = "Tag::Replays"
    )]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<ReplayJob>>, ApiError> {
        let page = Paging::new(limit.0, cursor.0).bounds();
        let jobs = read::replays::list(&services.db, caller.tenant, page).await?;
        Reply::of(&Page::from(jobs).map(ReplayJob::from))
    }

    /// Get a replay job
    ///
    /// How far it is, and what came of what it has sent off.
    #[oai(
        path = "/v1/replays/:replay_id",
        method = "get",
        operation_id = "replays_get",
        tag = "Tag::Replays"
    )]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// The job.
        replay_id: Path<Ref<ids::Replay>>,
    ) -> Result<Reply<ReplayJob>, ApiError> {
        let job = read::replays::find(&services.db, caller.tenant, replay_id.0.0).await?;
        Reply::of(&job.ok_or_else(not_found)?.into())
    }

    /// Cancel a replay job
    ///
    /// It sends off, or discards, nothing more; what it has sent off goes on and is still counted. Cancelling twice is as
    /// good as once. A job that is completed is 409 `already_completed`.
    #[oai(
        path = "/v1/replays/:replay_id/cancel",
        method = "post",
        operation_id = "replays_cancel",
        tag = "Tag::Replays"
    )]
    async fn cancel(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        _again: SafeToRepeat,
        /// The job.
        replay_id: Path<Ref<ids::Replay>>,
    ) -> Result<Queued<ReplayJob>, FailsWith<AlreadyCompleted>> {
        let row = cancel(services, &caller, replay_id.0.0).await?;
        Ok(Queued::of(&row.into())?)
    }
}

fn not_found() -> ApiError {
    ApiError::not_found("replay job")
}

async fn make_or_count(
    services: &Services,
    caller: &ForTenant,
    keyed: Option<Keyed>,
    job: NewJob,
    dry_run: bool,
) -> Result<MadeOrCounted, ApiError> {
    if dry_run {
        let now = services.clock.now();
        let count = replay_jobs::count(&services.db, caller.tenant, &job.selection, now).await?;
        return Reply::of(&Count { count }).map(MadeOrCounted::Counted);
    }
    let accepted = match Once::begin(services, caller.tenant, keyed).await? {
        Begun::Done(accepted) => accepted,
        Begun::Work(once) => make(once, caller, job).await?,
    };
    Ok(MadeOrCounted::Made(Made(accepted)))
}
