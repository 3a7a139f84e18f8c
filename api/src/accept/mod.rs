//! Taking in what is to be delivered: messages and emails. The heart of the API.
//!
//! Requests that arrive together share one statement or one transaction (group commit) that writes what they handed in, its deliveries
//! and the remembered answers. Only then do the deliveries' ids go onto the queue, beside the requests: the database
//! is the truth, and a sweep of the workers finds whatever the queue did not get.

mod pusher;
mod transaction;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use relaypost_shared::{
    batch::Batcher,
    clock::Timestamp,
    db::{Postgres, Transaction},
    delivery::DeliveryKind,
    entities::delivery,
    health::{LONGEST_TURN, Loops, Passage, Stage},
    ids::{DeliveryId, TenantId},
    queue::{Job, Lane},
};
use sea_orm::{DbErr, EntityTrait};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    http::{ApiError, Code, request_id::RequestId},
    idempotency::{Accepted, Held},
};

pub(crate) use pusher::Pusher;
pub(crate) use transaction::{Store, job};

/// How many requests share a statement or a transaction at most.
const BATCH: usize = 100;
/// How much of one kind may wait to be written, in KiB; each submission counts as one more than its own size. Beyond that
/// the client has to come again: a database that stands still must not fill the memory.
const ROOM: usize = 64 << 10;

/// Something that is handed in to be delivered. The value is the validated command.
pub(crate) trait Intake: Sized + Send + Sync + 'static {
    /// What it is stored as.
    type Entity: EntityTrait;
    /// What has to be looked up for a batch before its deliveries are known.
    type Lookup: Send + Sync;
    /// The queue of its deliveries.
    const LANE: Lane;

    /// About how many bytes it is.
    fn size(&self) -> usize;

    /// Looks up what [`Intake::plan`] needs, for all at once.
    fn look_up(
        tx: &Transaction,
        batch: &[&Submission<Self>],
    ) -> impl Future<Output = Result<Self::Lookup, DbErr>> + Send;

    /// Plans and stores submissions without idempotency keys in one statement of PostgreSQL, with which nothing else of the
    /// transaction is needed. Nothing: this kind of thing cannot be stored like that, or not now.
    ///
    /// # Errors
    /// When the database fails; then nothing is stored, unless the connection was lost after it was.
    fn write_at_once(
        _: &Store,
        _: &Postgres,
        _: &[&Submission<Self>],
    ) -> impl Future<Output = Result<Option<Written>, DbErr>> + Send {
        async { Ok(None) }
    }

    /// Decides what is written and answered.
    ///
    /// # Errors
    /// What is wrong with this one; the others of its batch go on.
    fn plan(
        submission: &Submission<Self>,
        lookup: &Self::Lookup,
        now: Timestamp,
    ) -> Result<Plan<<Self::Entity as EntityTrait>::Model>, ApiError>;
}

/// A command with who sent it.
#[derive(Debug)]
pub(crate) struct Submission<I> {
    pub(crate) tenant: TenantId,
    pub(crate) request_id: RequestId,
    /// Its idempotency key, held until the work is done, whether or not its sender waits for it.
    pub(crate) held: Option<Arc<Held>>,
    pub(crate) command: I,
}

/// What one submission comes to.
#[derive(Debug)]
pub(crate) struct Plan<R> {
    /// The row of the thing itself.
    pub(crate) row: R,
    /// Its deliveries.
    pub(crate) deliveries: Vec<delivery::Model>,
    /// The body of the answer, which is also what is remembered for its key.
    pub(crate) body: Bytes,
}

/// What came of a batch: an answer for each submission, in order, and the jobs that are due now.
pub(crate) type Written = (Vec<Result<Accepted, ApiError>>, Vec<Job>);

/// The plans of several submissions.
#[derive(Debug)]
pub(crate) struct Plans<R> {
    /// For each submission, in order.
    pub(crate) answers: Vec<Result<Accepted, ApiError>>,
    /// What is stored.
    pub(crate) rows: Vec<R>,
    /// With its deliveries.
    pub(crate) deliveries: Vec<delivery::Model>,
}

impl<R> Plans<R> {
    fn with_capacity(submissions: usize) -> Self {
        Self {
            answers: Vec::with_capacity(submissions),
            rows: Vec::with_capacity(submissions),
            deliveries: Vec::new(),
        }
    }

    /// Adds what a submission comes to. Returns the body of its answer, if it is accepted.
    fn add(&mut self, planned: Result<Plan<R>, ApiError>) -> Option<&Bytes> {
        self.answers.push(planned.map(|plan| {
            self.rows.push(plan.row);
            self.deliveries.extend(plan.deliveries);
            Accepted::First(plan.body)
        }));
        match self.answers.last() {
            Some(Ok(Accepted::First(body))) => Some(body),
            _ => None,
        }
    }

    /// The jobs of the deliveries that are due now.
    pub(crate) fn due_now(&self) -> Vec<Job> {
        let due_now = self.deliveries.iter();
        let due_now = due_now.filter(|one| one.dispatch_at.is_none());
        due_now.map(job).collect()
    }

    /// Plans submissions that have no idempotency keys.
    pub(crate) fn of<I>(batch: &[&Submission<I>], lookup: &I::Lookup, now: Timestamp) -> Self
    where
        I: Intake,
        I::Entity: EntityTrait<Model = R>,
    {
        let mut plans = Self::with_capacity(batch.len());
        for one in batch {
            plans.add(I::plan(one, lookup, now));
        }
        plans
    }
}

/// Takes in one kind of thing. Clones share the batches.
pub(crate) struct Acceptor<I> {
    batches: Batcher<Waiting<I>, Result<Accepted, ApiError>>,
    room: Arc<Semaphore>,
}

/// A submission with the room that it takes until it is written, whether or not its sender waits for that.
type Waiting<I> = (Submission<I>, OwnedSemaphorePermit);

impl<I: Intake> Acceptor<I> {
    /// Starts the task that writes the batches.
    ///
    /// Batches pass through `storing`; one that the database does not take has not got through it.
    pub(crate) fn start(store: Store, pusher: Pusher, storing: Stage, loops: &Loops) -> Self {
        let turn = loops.add(storing.name(), LONGEST_TURN);
        let batches = Batcher::start(
            BATCH,
            store.db.batch_limit(),
            move |waiting: Vec<Waiting<I>>| {
                let (store, pusher) = (store.clone(), pusher.clone());
                let (storing, turn) = (storing.clone(), turn.clone());
                async move {
                    let (batch, _room): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
                    let passage = storing.enter();
                    let (answers, jobs) = turn.during(store.write(&batch)).await;
                    leave(passage, &answers);
                    pusher.push(I::LANE, jobs);
                    answers
                }
            },
        );
        Self {
            batches,
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Takes in one thing; when this returns it is in the database.
    ///
    /// # Errors
    /// 409 when its idempotency key was used with another body or is in use; 503 when too much waits already; 503 and 500
    /// when the database fails.
    pub(crate) async fn accept(&self, submission: Submission<I>) -> Result<Accepted, ApiError> {
        let size = 1 + submission.command.size() / 1024;
        let size = u32::try_from(size.min(ROOM)).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(size) else {
            let detail = "too much waits to be stored; try again";
            return Err(ApiError::new(Code::Unavailable, detail));
        };
        self.batches.call((submission, room)).await?
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

/// A delivery as it begins, due now unless `due` is later. The caller says what is delivered where to.
pub(crate) fn new_delivery(
    kind: DeliveryKind,
    tenant: TenantId,
    now: Timestamp,
    due: Option<Timestamp>,
) -> delivery::Model {
    let due = due.filter(|due| *due > now);
    delivery::Model {
        next_attempt_at: due,
        // Without a time to wait for, its first job goes onto the queue now and the dispatcher has nothing to do.
        dispatch_at: due,
        ..delivery::Model::pending(DeliveryId::generate(now), kind, tenant, now)
    }
}

impl<I> Clone for Acceptor<I> {
    fn clone(&self) -> Self {
        Self {
            batches: self.batches.clone(),
            room: self.room.clone(),
        }
    }
}

impl<I> fmt::Debug for Acceptor<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}
