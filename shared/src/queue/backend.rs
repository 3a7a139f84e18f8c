//! A lane as apalis's worker runtime sees it.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::{
    backend::{
        Backend, BackendConfig,
        finalize::Ephemeral,
        persistence::{Persisted, State},
    },
    layers::Identity,
    task::Task,
    worker::context::WorkerContext,
};

use super::Consumer;
use crate::ids::DeliveryId;

/// How often apalis asks for a heartbeat, which here does nothing: `Consumer::keep_alive` beats.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// The apalis backend of one lane: jobs are lists of deliveries that are due.
#[derive(Debug)]
pub struct JobBackend(Persisted<Consumer>);

impl JobBackend {
    /// A backend that takes its jobs from `consumer`.
    pub fn new(consumer: Consumer) -> Self {
        Self(Persisted::new(consumer))
    }
}

impl Backend for JobBackend {
    type Task = Task<Vec<DeliveryId>>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx, worker, HEARTBEAT)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let next = self.0.poll_next(cx, worker);
        // After an empty fetch `Persisted` waits for somebody to wake it. A fetch of ours has done its own waiting.
        if next.is_pending() && matches!(self.0.state(), State::Ready) {
            cx.waker().wake_by_ref();
        }
        next
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        self.0.poll_close(cx, worker)
    }
}

impl BackendConfig for JobBackend {
    type Args = Vec<DeliveryId>;
    type Id = DeliveryId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
