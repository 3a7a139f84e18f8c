//! The tasks of one job.

use std::collections::HashMap;

use futures::{FutureExt as _, future::BoxFuture};
use relaypost_shared::{delivery::Outcome, ids::DeliveryId, queue::Consumer};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::Pipeline;
use crate::{circuit::Pass, load::Loaded, send::Attempted};

/// The deliveries of one job that are being sent or ended.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    deliveries: HashMap<tokio::task::Id, DeliveryId>,
}

impl Tasks {
    /// Whether this delivery has a task.
    pub(super) fn has_begun(&self, delivery: DeliveryId) -> bool {
        self.deliveries.values().any(|begun| *begun == delivery)
    }

    pub(super) fn attempt(&mut self, pipeline: &Pipeline, loaded: Loaded, pass: Pass) {
        let (pipeline, delivery) = (pipeline.clone(), loaded.delivery.id);
        let task = async move { pipeline.attempt(loaded, pass).await };
        self.spawn(delivery, task.boxed());
    }

    pub(super) fn end(&mut self, pipeline: &Pipeline, loaded: Loaded, outcome: Outcome) {
        let (pipeline, delivery) = (pipeline.clone(), loaded.delivery.id);
        let task = async move { pipeline.settle(loaded, None, outcome).await };
        self.spawn(delivery, task.boxed());
    }

    pub(super) fn lost(&mut self, pipeline: &Pipeline, loaded: Loaded, attempted: Attempted) {
        let (pipeline, delivery) = (pipeline.clone(), loaded.delivery.id);
        let task = async move { pipeline.conclude(loaded, attempted).await };
        self.spawn(delivery, task.boxed());
    }

    /// A future is moved several times on its way into a task, and these are large: what is moved is a box.
    fn spawn(&mut self, delivery: DeliveryId, task: BoxFuture<'static, ()>) {
        let task = self.running.spawn(task.in_current_span());
        self.deliveries.insert(task.id(), delivery);
    }

    /// Returns when all of them have ended.
    pub(super) async fn finish(mut self, consumer: &Consumer) {
        while let Some(ended) = self.running.join_next().await {
            let Err(error) = ended else { continue };
            if error.is_panic() {
                consumer.panicked();
            }
            let delivery = self.deliveries.get(&error.id());
            tracing::error!(%error, delivery = delivery.map(tracing::field::display), "a delivery's task ended unexpectedly");
            // Without a job it is found again by the sweep or the dispatcher, which is not at once: if it ends like this
            // every time, it does so in peace.
            consumer
                .acknowledge(delivery.map(std::slice::from_ref).unwrap_or_default())
                .await;
        }
    }
}
