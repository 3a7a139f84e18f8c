//! The way of one job through the five steps.

use std::{collections::HashMap, sync::Arc};

use relaypost_shared::{
    batch::Batcher,
    clock::Clock,
    delivery::{DeliveryKind, Outcome},
    ids::DeliveryId,
    queue::Consumer,
};
use sea_orm::{DatabaseConnection, DbErr};
use tokio::task::JoinSet;

use crate::{
    decide::{self, decide},
    guard::{Verdict, guard},
    load::{Loaded, Target, load},
    record::{Recorded, record},
    retry,
    send::{Attempted, Sender},
};

/// How many results share one transaction at most.
const RECORD_AT_MOST: usize = 100;

/// What a lane's jobs are worked on with. Clones share it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    db: DatabaseConnection,
    clock: Clock,
    sender: Sender,
    schedule: Arc<[u32]>,
    consumer: Consumer,
    recorder: Batcher<Recorded, Result<(), Arc<DbErr>>>,
}

impl Pipeline {
    /// A pipeline whose jobs come from `consumer`. `schedule` is the retry schedule of whatever has none of its own.
    pub fn new(
        db: DatabaseConnection,
        clock: Clock,
        sender: Sender,
        schedule: &[u32],
        consumer: Consumer,
    ) -> Self {
        let recorder = recorder(db.clone(), consumer.clone());
        Self {
            db,
            clock,
            sender,
            schedule: schedule.into(),
            consumer,
            recorder,
        }
    }

    /// Works on one job, and returns when each of its deliveries is recorded and acknowledged, or back in the queue.
    pub async fn work(self, ids: Vec<DeliveryId>) {
        let loaded = match load(&self.db, &ids, self.clock.now()).await {
            Ok(loaded) => loaded,
            Err(error) => return self.give_back(&ids, &error).await,
        };
        let settled: Vec<DeliveryId> = ids
            .into_iter()
            .filter(|id| loaded.iter().all(|one| one.delivery.id != *id))
            .collect();
        if !settled.is_empty() {
            self.consumer.acknowledge(&settled).await;
        }
        let verdicts = guard(&loaded, self.clock.now());
        let mut tasks = JoinSet::new();
        let mut deliveries = HashMap::new();
        for (loaded, verdict) in loaded.into_iter().zip(verdicts) {
            let pipeline = self.clone();
            let delivery = loaded.delivery.id;
            let task = match verdict {
                Verdict::Send => tasks.spawn(async move { pipeline.attempt(loaded).await }),
                Verdict::End(outcome) => {
                    tasks.spawn(async move { pipeline.settle(&loaded, None, outcome).await })
                }
                Verdict::NotDue => tasks.spawn(async move {
                    pipeline.consumer.acknowledge(&[delivery]).await;
                }),
            };
            deliveries.insert(task.id(), delivery);
        }
        while let Some(ended) = tasks.join_next().await {
            let Err(error) = ended else { continue };
            let delivery = deliveries.get(&error.id());
            tracing::error!(%error, delivery = delivery.map(tracing::field::display), "a delivery's task ended unexpectedly");
            // Without a job it is found again by the sweep or the dispatcher, which is not at once: if it ends like this
            // every time, it does so in peace.
            self.consumer
                .acknowledge(delivery.map(std::slice::from_ref).unwrap_or_default())
                .await;
        }
    }

    /// Sends, decides, records.
    async fn attempt(&self, loaded: Loaded) {
        let attempted = self.sender.send(&loaded).await;
        let context = decide::Context {
            schedule: &self.schedule,
            now: self.clock.now(),
            chance: rand::random(),
        };
        let outcome = decide(&loaded, &attempted, context);
        log(&loaded, &attempted, outcome);
        self.settle(&loaded, Some(attempted), outcome).await;
    }

    /// Records until it is recorded: what was sent must not be forgotten because the database restarts.
    async fn settle(&self, loaded: &Loaded, attempted: Option<Attempted>, outcome: Outcome) {
        let recorded = Recorded {
            delivery: loaded.delivery.clone(),
            attempted,
            outcome,
            at: self.clock.now(),
            request_id: loaded.request_id().to_owned(),
        };
        for wait in retry::infrastructure() {
            match self.recorder.call(recorded.clone()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::warn!(%error, delivery = %loaded.delivery.id, "a result cannot be recorded yet")
                }
                Err(lost) => tracing::error!(error = %lost, "the recorder is gone"),
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Nothing was sent: the jobs go back, after a pause in which the database may recover.
    async fn give_back(&self, ids: &[DeliveryId], error: &DbErr) {
        tracing::warn!(%error, "deliveries cannot be loaded");
        if let Some(wait) = retry::infrastructure().nth(4) {
            tokio::time::sleep(wait).await;
        }
        self.consumer.hand_back(ids).await;
    }
}

/// Records in batches, and acknowledges a batch once it is committed.
fn recorder(
    db: DatabaseConnection,
    consumer: Consumer,
) -> Batcher<Recorded, Result<(), Arc<DbErr>>> {
    Batcher::start(RECORD_AT_MOST, move |batch: Vec<Recorded>| {
        let (db, consumer) = (db.clone(), consumer.clone());
        async move {
            let results = record_each(&db, &batch).await;
            let done: Vec<DeliveryId> = batch
                .iter()
                .zip(&results)
                .filter(|(_, result)| result.is_ok())
                .map(|(recorded, _)| recorded.delivery.id)
                .collect();
            consumer.acknowledge(&done).await;
            results
        }
    })
}

/// Records a batch. When that fails, each alone, so that one row that cannot be written holds nobody else up.
async fn record_each(db: &DatabaseConnection, batch: &[Recorded]) -> Vec<Result<(), Arc<DbErr>>> {
    let error = match record(db, batch).await {
        Ok(effective) => {
            for recorded in batch
                .iter()
                .filter(|recorded| !effective.contains(&recorded.delivery.id))
            {
                tracing::warn!(delivery = %recorded.delivery.id, "another worker had the same delivery and was first");
            }
            return vec![Ok(()); batch.len()];
        }
        Err(error) => Arc::new(error),
    };
    if batch.len() == 1 || is_connection(&error) {
        return vec![Err(error); batch.len()];
    }
    let mut results = Vec::with_capacity(batch.len());
    for recorded in batch {
        results.push(
            record(db, std::slice::from_ref(recorded))
                .await
                .map(|_| ())
                .map_err(Arc::new),
        );
    }
    results
}

fn is_connection(error: &DbErr) -> bool {
    matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_))
}

/// One structured entry for each failed webhook and mail; what was sent, and to whom, is never in it.
fn log(loaded: &Loaded, attempted: &Attempted, outcome: Outcome) {
    let delivery = &loaded.delivery;
    let Err(failure) = &attempted.result else {
        tracing::debug!(delivery = %delivery.id, "delivered");
        return;
    };
    let lane = match delivery.kind {
        DeliveryKind::Webhook => "webhook",
        DeliveryKind::Email => "email",
    };
    tracing::warn!(
        tenant_id = %delivery.tenant_id,
        request_id = loaded.request_id(),
        delivery = %delivery.id,
        endpoint = delivery.endpoint_id.map(tracing::field::display),
        kind = lane,
        attempt = delivery.attempt_count + 1,
        error_class = failure.class.as_str(),
        status = failure.status,
        outcome = outcome.name(),
        "attempt failed"
    );
}

impl Loaded {
    /// The id of the request that made the delivery.
    fn request_id(&self) -> &str {
        match &self.target {
            Target::Webhook { message, .. } => &message.request_id,
            Target::Email { email, .. } => &email.request_id,
            Target::Missing => "",
        }
    }
}
