//! Taking in what is to be delivered: messages and emails. The heart of the API.
//!
//! Requests that arrive together share one transaction (group commit) that writes what they handed in, its deliveries
//! and the remembered answers. Only then do the deliveries' ids go onto the queue, beside the requests: the database
//! is the truth, and a sweep of the workers finds whatever the queue did not get.

mod pusher;
mod transaction;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use relaypost_shared::{
    batch::Batcher,
    clock::Timestamp,
    delivery::DeliveryKind,
    entities::delivery,
    ids::{DeliveryId, TenantId},
    queue::Lane,
};
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait};

use crate::{
    http::{ApiError, request_id::RequestId},
    idempotency::{Accepted, Held},
};

pub(crate) use pusher::Pusher;
pub(crate) use transaction::{Store, job};

/// How many requests share a transaction at most.
const BATCH: usize = 100;

/// Something that is handed in to be delivered. The value is the validated command.
pub(crate) trait Intake: Sized + Send + Sync + 'static {
    /// What it is stored as.
    type Entity: EntityTrait;
    /// What has to be looked up for a batch before its deliveries are known.
    type Lookup: Send + Sync;
    /// The queue of its deliveries.
    const LANE: Lane;

    /// Looks up what [`Intake::plan`] needs, for all at once.
    fn look_up(
        tx: &DatabaseTransaction,
        batch: &[Submission<Self>],
    ) -> impl Future<Output = Result<Self::Lookup, DbErr>> + Send;

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

/// Takes in one kind of thing. Clones share the batches.
pub(crate) struct Acceptor<I>(Batcher<Submission<I>, Result<Accepted, ApiError>>);

impl<I: Intake> Acceptor<I> {
    /// Starts the task that writes the batches.
    pub(crate) fn start(store: Store, pusher: Pusher) -> Self {
        Self(Batcher::start(BATCH, move |batch: Vec<Submission<I>>| {
            let (store, pusher) = (store.clone(), pusher.clone());
            async move {
                let (answers, jobs) = store.write(&batch).await;
                pusher.push(I::LANE, jobs);
                answers
            }
        }))
    }

    /// Takes in one thing; when this returns it is in the database.
    ///
    /// # Errors
    /// 409 when its idempotency key was used with another body or is in use; 503 and 500 when the database fails.
    pub(crate) async fn accept(&self, submission: Submission<I>) -> Result<Accepted, ApiError> {
        self.0.call(submission).await?
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
        Self(self.0.clone())
    }
}

impl<I> fmt::Debug for Acceptor<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}
