//! A lane as apalis's worker runtime sees it.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
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
use tokio::{
    sync::watch,
    time::{Sleep, sleep},
};

use super::Consumer;
use crate::ids::DeliveryId;

/// How often apalis asks for a heartbeat, which here does nothing: `Consumer::keep_alive` beats.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// The apalis backend of one lane: jobs are lists of deliveries that are due.
///
/// A consumer outlives its backend. When a worker ends, what it holds stays held, and the next worker on the same consumer
/// goes on beside it: no job is lost, and none is given out a second time.
#[derive(Debug)]
pub struct JobBackend {
    jobs: Persisted<Consumer>,
    rest: Option<Pin<Box<Sleep>>>,
    stopping: Option<watch::Receiver<bool>>,
}

/// A worker ended although nobody had told the process to stop. apalis's `Monitor` starts only those again that end with an
/// error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the worker ended although the process goes on")]
pub struct WorkerEnded;

impl JobBackend {
    /// A backend that takes its jobs from `consumer`.
    pub fn new(consumer: Consumer) -> Self {
        Self {
            jobs: Persisted::new(consumer),
            rest: None,
            stopping: None,
        }
    }

    /// The same, for a worker that takes its first job after `rest`.
    #[must_use]
    pub fn starting_after(mut self, rest: Duration) -> Self {
        self.rest = (!rest.is_zero()).then(|| Box::pin(sleep(rest)));
        self
    }

    /// The same, for a worker that may end once `stopping` is true. If it ends before, that is a [`WorkerEnded`].
    #[must_use]
    pub fn until(mut self, stopping: watch::Receiver<bool>) -> Self {
        self.stopping = Some(stopping);
        self
    }
}

impl Backend for JobBackend {
    type Task = Task<Vec<DeliveryId>>;
    type Error = WorkerEnded;

    fn poll_ready(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), WorkerEnded>> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        let ready = self.jobs.poll_ready(cx, worker, HEARTBEAT);
        ready.map_err(|never| match never {})
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, WorkerEnded>>> {
        let next = self.jobs.poll_next(cx, worker);
        // After an empty fetch `Persisted` waits for somebody to wake it. A fetch of ours has done its own waiting.
        if next.is_pending() && matches!(self.jobs.state(), State::Ready) {
            cx.waker().wake_by_ref();
        }
        next.map_err(|never| match never {})
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), WorkerEnded>> {
        let Ok(()) = ready!(self.jobs.poll_close(cx, worker));
        let asked = self.stopping.as_ref().is_none_or(|told| *told.borrow());
        Poll::Ready(if asked { Ok(()) } else { Err(WorkerEnded) })
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
