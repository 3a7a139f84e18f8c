//! Accepts messages and emails. The heart of the API.
//!
//! A handler checks its request and hands a command to an [`Acceptor`]. Commands that arrive together are planned together
//! (which rows, which deliveries, which answer) and go to the store as plain data, which writes all of it at once (group
//! commit). Only then do the deliveries' ids go onto the queue, beside the requests: the database is the truth, and a sweep
//! of the workers finds whatever the queue did not get.

mod group;
mod plan;
mod pusher;

use std::{fmt, sync::Arc, time::Duration};

use relaypost_shared::{
    batch::Batcher,
    db::Database,
    health::{LONGEST_TURN, Loops, Passage, Stage},
    ids::TenantId,
    queue::{Job, Lane},
};
use sea_orm::DbErr;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    http::{ApiError, Code, request_id::RequestId},
    idempotency::{Accepted, Held},
};

pub(crate) use plan::{Context, Plan, Plans};
pub(crate) use pusher::Pusher;

/// The most requests that share a write.
const BATCH: usize = 100;
/// The most of one kind that may wait to be written, in KiB; each submission counts as one more than its own size. Beyond
/// that the client has to come again: a database that stands still must not fill the memory.
const MAX_WAITING_KIB: usize = 64 << 10;

/// Plans and stores one kind of command.
pub(crate) trait Intake: Clone + Send + Sync + 'static {
    /// The validated command.
    type Command: Send + Sync + 'static;
    /// The queue of its deliveries.
    const LANE: Lane;

    /// The services that planning and storing need.
    fn context(&self) -> &Context;

    /// About how many bytes a command is.
    fn size(command: &Self::Command) -> usize;

    /// Plans and stores submissions, and tells what came of each, in order. With `last` none of them may be stale.
    ///
    /// # Errors
    /// When the database fails; then nothing is stored, unless the connection was lost after it was.
    fn store(
        &self,
        batch: &[&Submission<Self::Command>],
        last: bool,
    ) -> impl Future<Output = Result<Vec<Settled>, DbErr>> + Send;
}

/// A command with who sent it.
#[derive(Debug)]
pub(crate) struct Submission<C> {
    pub(crate) tenant: TenantId,
    pub(crate) request_id: RequestId,
    /// Its idempotency key, held until the work is done, whether or not its sender waits for it.
    pub(crate) held: Option<Arc<Held>>,
    pub(crate) command: C,
}

/// The result of storing a submission.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Its answer, and the jobs that are due now.
    Answered(Result<Accepted, ApiError>, Vec<Job>),
    /// Nothing was stored, because what it was planned by has changed meanwhile. It has to be planned anew.
    Stale,
}

/// Accepts one kind of command. Clones share the batches.
pub(crate) struct Acceptor<I: Intake> {
    batches: Batcher<Waiting<I>, Result<Accepted, ApiError>>,
    room: Arc<Semaphore>,
    answer_limit: Duration,
}

/// A submission with the room that it takes until it is written, whether or not its sender waits for that.
type Waiting<I> = (Submission<<I as Intake>::Command>, OwnedSemaphorePermit);

impl<I: Intake> Acceptor<I> {
    /// Starts the task that writes the batches, each within the [`Database::batch_limit`].
    ///
    /// Batches pass through `storing`; one that the database does not take has not got through it.
    pub(crate) fn start(
        intake: I,
        db: &Database,
        pusher: Pusher,
        storing: Stage,
        loops: &Loops,
    ) -> Self {
        let turn = loops.add(storing.name(), LONGEST_TURN);
        let batches = Batcher::start(BATCH, db.batch_limit(), move |waiting: Vec<Waiting<I>>| {
            let (intake, pusher) = (intake.clone(), pusher.clone());
            let (storing, turn) = (storing.clone(), turn.clone());
            async move {
                let (batch, _room): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
                let passage = storing.enter();
                let (answers, jobs) = turn.during(group::write(&intake, &batch)).await;
                leave(passage, &answers);
                pusher.push(I::LANE, jobs);
                answers
            }
        });
        Self {
            batches,
            room: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            answer_limit: db.answer_limit(),
        }
    }

    /// Accepts one command; when this returns it is in the database.
    ///
    /// # Errors
    /// 409 when its idempotency key was used with another body or is in use; 503 when too much waits already, and when
    /// the database does not answer within the [`Database::answer_limit`], after which it may still be stored; 503 and 500
    /// when the database fails.
    pub(crate) async fn accept(
        &self,
        submission: Submission<I::Command>,
    ) -> Result<Accepted, ApiError> {
        let size = 1 + I::size(&submission.command) / 1024;
        let size = u32::try_from(size.min(MAX_WAITING_KIB)).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(size) else {
            let detail = "too much waits to be stored; try again";
            return Err(ApiError::new(Code::Unavailable, detail));
        };
        let stored = self.batches.call((submission, room));
        let stored = timeout(self.answer_limit, stored).await;
        stored.map_err(|_| ApiError::took_too_long())??
    }
}

/// A batch that the database refused as a whole has not got through.
fn leave(passage: Passage, answers: &[Result<Accepted, ApiError>]) {
    let refusal = |answer: &Result<Accepted, ApiError>| answer.as_ref().err().map(|it| it.code);
    let mut refusals = answers.iter().map(refusal);
    let refused = [Some(Code::Unavailable), Some(Code::StorageFull)];
    if !refusals.clone().all(|refusal| refused.contains(&refusal)) {
        passage.through();
    } else if refusals.any(|refusal| refusal == Some(Code::StorageFull)) {
        passage.found_disk_full();
    }
}

impl<I: Intake> Clone for Acceptor<I> {
    fn clone(&self) -> Self {
        Self {
            batches: self.batches.clone(),
            room: self.room.clone(),
            answer_limit: self.answer_limit,
        }
    }
}

impl<I: Intake> fmt::Debug for Acceptor<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}
