//! The lanes: apalis's `Monitor` runs a worker on each, and starts it again when it ends or panics.
//!
//! A job runs in a task of its own, which belongs to the process and not to the lane's worker. So a worker that is started
//! again leaves what is in flight alone: it is sent once, recorded and acknowledged, while the new worker takes further jobs
//! from the same consumer. A panic in a job ends nothing but this job.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use apalis::prelude::{
    BoxDynError, Layer, Monitor, MonitorContext, Service, Task, WorkerBuilder,
    WorkerBuilderExt as _, WorkerError,
};
use futures::{FutureExt as _, future::BoxFuture};
use relaypost_shared::{
    health::Loop,
    ids::DeliveryId,
    queue::{Consumer, JobBackend},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};
use tracing::Instrument as _;

use crate::{pipeline::Pipeline, restart::Restarts};

/// What one lane's worker works with.
pub(crate) struct LaneParts {
    pub(crate) pipeline: Pipeline,
    pub(crate) consumer: Consumer,
    /// The loop that shows whether the lane runs.
    pub(crate) fetches: Loop,
}

/// The lanes of a process. Dropped, they end with everything that is in flight.
pub(crate) struct Lanes {
    /// One task, which runs all workers.
    monitor: JoinSet<()>,
    context: MonitorContext,
    stopping: watch::Sender<bool>,
    jobs: Jobs,
    /// What was still under way when the last worker had ended.
    left: JoinSet<()>,
}

impl Lanes {
    /// Starts them, on the current Tokio runtime.
    pub(crate) fn start(name: &str, lanes: Vec<LaneParts>) -> Self {
        let (stopping, jobs) = (watch::Sender::new(false), Jobs::default());
        let consumers: Vec<Consumer> = lanes.iter().map(|lane| lane.consumer.clone()).collect();
        let mut monitor = Monitor::new().should_restart(move |worker, error| {
            let ended = consumers
                .iter()
                .find(|consumer| worker.name().ends_with(consumer.lane().name()));
            if let (WorkerError::PanicError(_), Some(consumer)) = (error, ended) {
                consumer.panicked();
            }
            let restarts = worker.restarts();
            tracing::error!(worker = worker.name(), %error, restarts, "a lane's worker ended and starts again");
            true
        });
        for lane in lanes {
            let name = format!("{name}-{}", lane.consumer.lane().name());
            monitor = lane.register(monitor, name, &stopping, &jobs);
        }
        let context = monitor.context();
        let mut running = JoinSet::new();
        running.spawn(async move {
            if let Err(error) = monitor.run().await {
                tracing::error!(%error, "a lane ended with an error");
            }
        });
        Self {
            monitor: running,
            context,
            stopping,
            jobs,
            left: JoinSet::new(),
        }
    }

    /// Takes no more work, and returns when what is in flight has ended. May be dropped and followed by [`Self::cut_off`].
    pub(crate) async fn drain(&mut self) {
        self.stopping.send_replace(true);
        if let Err(error) = self.context.shutdown() {
            tracing::error!(%error, "the lanes cannot be told to stop");
        }
        while let Some(ended) = self.monitor.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the lanes ended unexpectedly");
            }
        }
        // Of workers that were started again. Nobody begins a job any more.
        self.left = self.jobs.take();
        while self.left.join_next().await.is_some() {}
    }

    /// Ends what is still in flight, wherever it is.
    pub(crate) async fn cut_off(mut self) {
        self.monitor.shutdown().await;
        self.left.shutdown().await;
        self.jobs.take().shutdown().await;
    }
}

impl LaneParts {
    /// Registers the lane's worker, which the monitor makes anew whenever it has ended.
    fn register(
        self,
        monitor: Monitor,
        name: String,
        stopping: &watch::Sender<bool>,
        jobs: &Jobs,
    ) -> Monitor {
        let (stopping, jobs) = (stopping.clone(), jobs.clone());
        let restarts = Mutex::new(Restarts::new(self.fetches));
        let (pipeline, consumer) = (self.pipeline, self.consumer);
        monitor.register(move |ended| {
            let rest = (ended > 0).then(|| lock(&restarts).ended());
            let backend = JobBackend::new(consumer.clone())
                .starting_after(rest.unwrap_or_default())
                .until(stopping.subscribe());
            let pipeline = pipeline.clone();
            WorkerBuilder::new(name.clone())
                .backend(backend)
                .layer(OwnTask {
                    jobs: jobs.clone(),
                    consumer: consumer.clone(),
                })
                .catch_panic()
                // The layers move it, and it is large.
                .build(move |job| pipeline.clone().work(job).boxed())
        })
    }
}

/// The tasks of all jobs, whichever lane's worker has begun them.
#[derive(Clone, Debug, Default)]
struct Jobs(Arc<Mutex<JoinSet<()>>>);

impl Jobs {
    fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.0);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(job);
    }

    fn take(&self) -> JoinSet<()> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// A layer that runs each job in a task and a span of its own. It stands outside the layer that catches panics, logs what
/// that has caught, and counts it.
#[derive(Clone, Debug)]
struct OwnTask {
    jobs: Jobs,
    consumer: Consumer,
}

impl<S> Layer<S> for OwnTask {
    type Service = InOwnTask<S>;

    fn layer(&self, inner: S) -> InOwnTask<S> {
        InOwnTask {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`OwnTask`].
#[derive(Clone, Debug)]
struct InOwnTask<S> {
    layer: OwnTask,
    inner: S,
}

impl<S> Service<Task<Vec<DeliveryId>>> for InOwnTask<S>
where
    S: Service<Task<Vec<DeliveryId>>, Error = BoxDynError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx)
    }

    /// Completes with the job's task. Dropped before, it leaves the task alone.
    fn call(&mut self, task: Task<Vec<DeliveryId>>) -> Self::Future {
        let OwnTask { jobs, consumer } = &self.layer;
        let (lane, deliveries) = (consumer.lane().name(), task.args.len());
        let span = tracing::info_span!("job", lane, deliveries);
        let (work, consumer) = (self.inner.call(task), consumer.clone());
        let (done, ended) = oneshot::channel();
        let job = async move {
            if let Err(error) = work.await {
                consumer.panicked();
                tracing::error!(%error, "a job panicked");
            }
            // Without a worker that waits for it there is nobody to tell.
            let _ = done.send(());
        };
        jobs.spawn(job.instrument(span));
        // Without an answer the task was cut off.
        ended.map(|_| Ok(())).boxed()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
