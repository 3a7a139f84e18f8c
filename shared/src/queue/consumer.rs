//! The taking side of a queue, as one worker uses it: fetch, acknowledge, hand back, and never fail because of Redis.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use apalis_core::{
    backend::persistence::{Persistence, TaskEvent},
    task::Task,
    worker::context::WorkerContext,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

use super::{
    Lane, MemoryQueue, Queue, QueueError,
    redis::{Fault, RedisWorker, WAIT},
};
use crate::ids::DeliveryId;

/// Deliveries in one job at most.
const JOB_SIZE: usize = 64;
/// How often a worker says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long to leave Redis alone after a fault.
const FAULT_PAUSE: Duration = Duration::from_millis(200);

/// One worker's end of one lane. Clones share it.
///
/// It counts what the worker holds: a job is taken only when there is a free slot, and the slot is free again when the
/// job is acknowledged.
#[derive(Clone, Debug)]
pub struct Consumer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lane: Lane,
    source: Source,
    slots: Semaphore,
    /// Held while jobs are on their way from the queue to `held`: in between, Redis and this worker differ.
    taking: AsyncMutex<()>,
    held: Mutex<Held>,
    /// Set after a fault: Redis may believe that this worker has jobs which never arrived here.
    doubtful: AtomicBool,
    lost: Notify,
}

#[derive(Debug)]
enum Source {
    Redis(Box<RedisWorker>),
    Memory(MemoryQueue),
}

#[derive(Debug, Default)]
struct Held {
    /// Being worked on.
    working: HashSet<DeliveryId>,
    /// Finished, and Redis has not heard of it yet.
    finished: HashSet<DeliveryId>,
}

impl Consumer {
    /// A consumer of `lane` that holds up to `slots` deliveries at a time. `name` must be new at every start.
    ///
    /// # Errors
    /// When the queue's address is not one of a Redis server.
    pub fn new(queue: &Queue, lane: Lane, name: &str, slots: usize) -> Result<Self, QueueError> {
        let source = match queue {
            Queue::Redis(queue) => Source::Redis(Box::new(queue.worker(lane, name)?)),
            Queue::Memory(queue) => Source::Memory(queue.clone()),
        };
        Ok(Self(Arc::new(Inner {
            lane,
            source,
            slots: Semaphore::new(slots),
            taking: AsyncMutex::default(),
            held: Mutex::default(),
            doubtful: AtomicBool::new(false),
            lost: Notify::new(),
        })))
    }

    /// The lane it takes from.
    pub fn lane(&self) -> Lane {
        self.0.lane
    }

    /// Returns each time the queue turned out to have lost its contents.
    pub async fn lost(&self) {
        self.0.lost.notified().await;
    }

    /// Says once a second that this worker lives, until the future is dropped. Without it the other workers take over
    /// what it holds; so it has to go on for as long as anything is in flight.
    pub async fn keep_alive(&self) {
        let mut beats = tokio::time::interval(HEARTBEAT);
        loop {
            beats.tick().await;
            if let Err(fault) = self.beat().await {
                self.recover(fault).await;
            }
        }
    }

    /// Finished: the jobs go, and their slots are free. A fault is not the caller's concern: the next heartbeat tells
    /// Redis again.
    pub async fn acknowledge(&self, deliveries: &[DeliveryId]) {
        {
            let mut held = self.held();
            for delivery in deliveries {
                held.working.remove(delivery);
                held.finished.insert(*delivery);
            }
        }
        self.0.slots.add_permits(deliveries.len());
        if let Err(fault) = self.flush().await {
            self.note(&fault);
        }
    }

    /// Not finished: the jobs go back to the queue, and their slots are free.
    pub async fn hand_back(&self, deliveries: &[DeliveryId]) {
        {
            let mut held = self.held();
            for delivery in deliveries {
                held.working.remove(delivery);
            }
        }
        self.0.slots.add_permits(deliveries.len());
        match &self.0.source {
            Source::Memory(queue) => queue.hand_back(self.0.lane, deliveries),
            Source::Redis(redis) => {
                if let Err(fault) = redis.hand_back(deliveries).await {
                    self.note(&fault);
                }
            }
        }
    }

    /// Signs off from the queue; what is still held goes back.
    pub async fn leave(&self) {
        if let Source::Redis(redis) = &self.0.source
            && let Err(fault) = async {
                self.flush().await?;
                redis.leave().await
            }
            .await
        {
            self.note(&fault);
        }
    }

    /// How many deliveries it holds.
    pub fn in_flight(&self) -> usize {
        self.held().working.len()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells Redis what is finished.
    async fn flush(&self) -> Result<(), Fault> {
        let finished: Vec<DeliveryId> = self.held().finished.iter().copied().collect();
        if finished.is_empty() {
            return Ok(());
        }
        match &self.0.source {
            Source::Memory(queue) => queue.acknowledge(self.0.lane, &finished),
            Source::Redis(redis) => redis.acknowledge(&finished).await?,
        }
        let mut held = self.held();
        for delivery in &finished {
            held.finished.remove(delivery);
        }
        Ok(())
    }

    /// One fetch: waits for a free slot and for jobs, both for a bounded time, and returns nothing rather than fail.
    async fn fetch(&self) -> Vec<DeliveryId> {
        let free = async { self.0.slots.acquire().await.map(|permit| permit.forget()) };
        if !matches!(tokio::time::timeout(WAIT, free).await, Ok(Ok(()))) {
            return Vec::new();
        }
        let more = self.0.slots.forget_permits(JOB_SIZE - 1);
        // Gives the slots back when this fetch is dropped half-way, as apalis does when it stops.
        let mut slots = Reserved {
            consumer: self,
            count: 1 + more,
            answered: false,
        };
        let fetched = self.take(slots.count).await;
        slots.answered = true;
        match fetched {
            Ok(fresh) => {
                slots.count -= fresh.len();
                fresh
            }
            Err(fault) => {
                self.recover(fault).await;
                Vec::new()
            }
        }
    }

    /// Up to `max` jobs that this worker does not have yet; waits a bounded time for the first.
    async fn take(&self, max: usize) -> Result<Vec<DeliveryId>, Fault> {
        let jobs = self.take_now(max).await?;
        if !jobs.is_empty() {
            return Ok(jobs);
        }
        match &self.0.source {
            Source::Redis(redis) => redis.pushed().await?,
            // The time-out is the bounded wait itself.
            Source::Memory(queue) => {
                let _ = tokio::time::timeout(WAIT, queue.pushed(self.0.lane)).await;
            }
        }
        self.take_now(max).await
    }

    async fn take_now(&self, max: usize) -> Result<Vec<DeliveryId>, Fault> {
        let _taking = self.0.taking.lock().await;
        let jobs = match &self.0.source {
            Source::Redis(redis) => redis.take(max).await?,
            Source::Memory(queue) => queue.take(self.0.lane, max),
        };
        Ok(self.keep(jobs))
    }

    /// Notes what was taken, without what this worker already has: after a loss the same delivery can be queued anew.
    fn keep(&self, taken: Vec<DeliveryId>) -> Vec<DeliveryId> {
        let mut held = self.held();
        taken
            .into_iter()
            .filter(|delivery| held.working.insert(*delivery))
            .collect()
    }

    async fn recover(&self, fault: Fault) {
        self.note(&fault);
        match (fault, &self.0.source) {
            (Fault::Unregistered, Source::Redis(redis)) => {
                let held: Vec<DeliveryId> = {
                    let held = self.held();
                    held.working.iter().chain(&held.finished).copied().collect()
                };
                match redis.register(&held).await {
                    Ok(()) => {
                        tracing::warn!(
                            lane = self.0.lane.name(),
                            "the queue had forgotten this worker: registered again"
                        );
                        self.0.lost.notify_one();
                    }
                    Err(fault) => self.note(&fault),
                }
            }
            _ => tokio::time::sleep(FAULT_PAUSE).await,
        }
    }

    fn note(&self, fault: &Fault) {
        self.0.doubtful.store(true, Ordering::Relaxed);
        if let Fault::Unreachable(error) = fault {
            tracing::warn!(lane = self.0.lane.name(), %error, "the queue cannot be reached");
        }
    }

    /// Puts back what Redis believes to be here and is not: the answer that brought it was lost on the way.
    async fn reconcile(&self, redis: &RedisWorker) -> Result<(), Fault> {
        if !self.0.doubtful.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let _taking = self.0.taking.lock().await;
        let believed = redis.believed().await?;
        let strayed: Vec<DeliveryId> = {
            let held = self.held();
            believed
                .into_iter()
                .filter(|id| !held.working.contains(id) && !held.finished.contains(id))
                .collect()
        };
        redis.hand_back(&strayed).await
    }

    async fn beat(&self) -> Result<(), Fault> {
        if let Source::Redis(redis) = &self.0.source {
            redis.heartbeat().await?;
            self.flush().await?;
            self.reconcile(redis).await?;
        }
        Ok(())
    }
}

struct Reserved<'a> {
    consumer: &'a Consumer,
    count: usize,
    answered: bool,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.consumer.0.slots.add_permits(self.count);
        if !self.answered {
            self.consumer.0.doubtful.store(true, Ordering::Relaxed);
        }
    }
}

/// What apalis drives. Nothing here ever fails: apalis answers an error by ending the worker, and dropping what it has
/// in flight, while a fault of the queue only means "nothing now, try again".
impl Persistence for Consumer {
    type Compact = Vec<DeliveryId>;
    type Response = ();
    type Error = Infallible;

    async fn register(&mut self, _: &WorkerContext) -> Result<(), Infallible> {
        if let Source::Redis(redis) = &self.0.source
            && let Err(fault) = redis.register(&[]).await
        {
            self.note(&fault);
        }
        Ok(())
    }

    async fn heartbeat(&mut self, _: &WorkerContext) -> Result<(), Infallible> {
        // `keep_alive` beats: apalis stops beating when it is told to stop, while work is still in flight.
        Ok(())
    }

    async fn fetch_next(
        &mut self,
        _: &WorkerContext,
    ) -> Result<Vec<Task<Self::Compact>>, Infallible> {
        let jobs = self.fetch().await;
        Ok(if jobs.is_empty() {
            Vec::new()
        } else {
            vec![Task::new(jobs)]
        })
    }

    async fn reenqueue_abandoned(
        &mut self,
        tasks: Vec<Task<Self::Compact>>,
        _: &WorkerContext,
    ) -> Result<u64, Infallible> {
        let deliveries: Vec<DeliveryId> = tasks.into_iter().flat_map(|task| task.args).collect();
        self.hand_back(&deliveries).await;
        Ok(deliveries.len() as u64)
    }

    async fn handle_events(
        &mut self,
        _: Vec<TaskEvent<()>>,
        _: &WorkerContext,
    ) -> Result<(), Infallible> {
        // Acknowledging is ours, in batches and after the record step: apalis sends no events.
        Ok(())
    }

    async fn push_tasks(&mut self, tasks: Vec<Task<Self::Compact>>) -> Result<(), Infallible> {
        // Jobs are pushed through `Queue::push`, which knows the tenant; what arrives here was fetched before.
        let deliveries: Vec<DeliveryId> = tasks.into_iter().flat_map(|task| task.args).collect();
        self.hand_back(&deliveries).await;
        Ok(())
    }
}
