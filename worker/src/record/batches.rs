//! Results of many deliveries, recorded in batches: what was simply delivered in one statement, the rest in a transaction.

use std::{collections::HashMap, sync::Arc};

use relaypost_shared::{
    batch::Batcher,
    db::{self, Database},
    ids::DeliveryId,
    queue::Consumer,
    settings,
};
use sea_orm::DbErr;

use super::{Recorded, record, record_plain};
use crate::{
    Services,
    dispatch::{self, Dispatched},
};

/// How many results share one transaction at most.
const AT_MOST: usize = 100;

/// Records in batches, and acknowledges a batch once it is committed.
pub(crate) fn recorder(
    services: Services,
    hot: Database,
    consumer: Consumer,
) -> Batcher<Arc<Recorded>, Result<(), Arc<DbErr>>> {
    Batcher::start(
        AT_MOST,
        hot.batch_limit(),
        move |batch: Vec<Arc<Recorded>>| {
            let (services, hot, consumer) = (services.clone(), hot.clone(), consumer.clone());
            async move {
                let ids: Vec<DeliveryId> = batch.iter().map(|one| one.id()).collect();
                let (failed, released) = record_each(&hot, &services.settings.circuit, batch).await;
                let done: Vec<DeliveryId> = ids
                    .iter()
                    .copied()
                    .filter(|id| !failed.contains_key(id))
                    .collect();
                consumer.acknowledge(&done).await;
                if !released.is_empty() {
                    push(&services, &released).await;
                }
                ids.iter()
                    .map(|id| failed.get(id).cloned().map_or(Ok(()), Err))
                    .collect()
            }
        },
    )
}

/// Puts what was released onto the queue. What does not get there is in the database, where the dispatcher and the sweep find
/// it.
async fn push(services: &Services, released: &[Dispatched]) {
    let now = services.clock.now();
    if let Err(error) = dispatch::push(&services.db, &services.queue, released, now).await {
        tracing::debug!(%error, "what was released is not on the queue yet");
    }
}

/// What could not be recorded, and why.
type Failed = HashMap<DeliveryId, Arc<DbErr>>;

fn all_failed(batch: &[Arc<Recorded>], error: DbErr) -> Failed {
    let error = Arc::new(error);
    batch.iter().map(|one| (one.id(), error.clone())).collect()
}

/// Records a batch: what was simply delivered in one statement, the rest in a transaction.
async fn record_each(
    hot: &Database,
    policy: &settings::Circuit,
    mut batch: Vec<Arc<Recorded>>,
) -> (Failed, Vec<Dispatched>) {
    if let Some(postgres) = hot.postgres() {
        match record_plain(&postgres, &batch).await {
            Ok(done) => batch.retain(|one| !done.contains(&one.id())),
            Err(error) if db::is_unavailable(&error) => {
                return (all_failed(&batch, error), Vec::new());
            }
            // One of them cannot be written like that: the transaction finds out which.
            Err(error) => tracing::warn!(%error, "successes go the way of what has failed"),
        }
    }
    if batch.is_empty() {
        return (Failed::new(), Vec::new());
    }
    record_rest(hot, policy, &batch).await
}

/// Records a batch in a transaction. When that fails, each alone, so that one row that cannot be written holds nobody else up.
async fn record_rest(
    hot: &Database,
    policy: &settings::Circuit,
    batch: &[Arc<Recorded>],
) -> (Failed, Vec<Dispatched>) {
    let error = match record(hot, policy, batch).await {
        Ok(written) => {
            for one in batch
                .iter()
                .filter(|one| !written.effective.contains(&one.id()))
            {
                tracing::warn!(delivery = %one.id(), "it was changed meanwhile: another worker had it too and was first, or it was cancelled");
            }
            return (Failed::new(), written.released);
        }
        Err(error) => error,
    };
    if batch.len() == 1 || db::is_unavailable(&error) {
        return (all_failed(batch, error), Vec::new());
    }
    let (mut failed, mut released) = (Failed::new(), Vec::new());
    for one in batch {
        match record(hot, policy, std::slice::from_ref(one)).await {
            Ok(mut written) => released.append(&mut written.released),
            Err(error) => {
                failed.insert(one.id(), Arc::new(error));
            }
        }
    }
    (failed, released)
}
