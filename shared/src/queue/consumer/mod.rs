//! The taking side of a queue, as one worker uses it: fetch, acknowledge, hand back, and never fail because of Redis.

mod held;
mod persistence;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex as AsyncMutex, Notify, Semaphore};

use super::{
    Lane, Limits, MemoryQueue, Queue, QueueError,
    flow::Fetched,
    memory::Holder,
    redis::{Fault, RedisWorker},
};
use crate::{health::Loop, ids::DeliveryId};
use held::Held;

/// How long one wait for new jobs lasts: heartbeats pause meanwhile.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// Deliveries in one job at most.
const JOB_SIZE: usize = 64;
/// How often a worker says that it lives.
const HEARTBEAT: Duration = Duration::from_millis(500);
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
    /// The cap of endpoints that have none of their own.
    max_in_flight: Option<u32>,
    slots: Semaphore,
    /// Held while jobs are on their way from the queue to `held`: in between, Redis and this worker differ.
    taking: AsyncMutex<()>,
    held: Mutex<Held>,
    /// It has asked to be registered, whether that succeeded or not.
    joined: AtomicBool,
    /// Set after a fault: Redis may believe that this worker has jobs which never arrived here.
    doubtful: AtomicBool,
    lost: Notify,
    reports: OnceLock<Reports>,
}

/// What its loops report to.
#[derive(Debug)]
struct Reports {
    fetches: Loop,
    beats: Loop,
}

#[derive(Debug)]
enum Source {
    Redis(Box<RedisWorker>),
    Memory(MemoryQueue, Holder),
}

impl Consumer {
    /// A consumer of `lane` that holds up to `slots` deliveries at a time. `name` must be new at every start.
    /// `max_in_flight` is the cap, over all workers and lanes, of endpoints that have none of their own; a tenant's emails
    /// have none without it being set.
    ///
    /// # Errors
    /// When the queue's address is not one of a Redis server.
    pub fn new(
        queue: &Queue,
        lane: Lane,
        name: &str,
        slots: usize,
        max_in_flight: Option<u32>,
    ) -> Result<Self, QueueError> {
        let max_in_flight = max_in_flight.map(|cap| cap.max(1));
        let source = match queue {
            Queue::Redis(queue) => Source::Redis(Box::new(RedisWorker::new(
                queue,
                lane,
                name,
                max_in_flight,
            )?)),
            Queue::Memory(queue) => Source::Memory(queue.clone(), queue.holder()),
        };
        Ok(Self(Arc::new(Inner {
            lane,
            source,
            max_in_flight,
            slots: Semaphore::new(slots),
            taking: AsyncMutex::default(),
            held: Mutex::default(),
            joined: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            lost: Notify::new(),
            reports: OnceLock::new(),
        })))
    }

    /// The lane it takes from.
    pub fn lane(&self) -> Lane {
        self.0.lane
    }

    /// From now on each fetch and each heartbeat is reported to these.
    pub fn report_to(&self, fetches: Loop, beats: Loop) {
        // A second call would be a mistake of the caller, and the first one holds.
        let _ = self.0.reports.set(Reports { fetches, beats });
    }

    /// A panic was caught in the work on a job of this lane: it is counted with the fetches.
    pub fn panicked(&self) {
        if let Some(reports) = self.0.reports.get() {
            reports.fetches.panicked();
        }
    }

    /// Returns each time the queue turned out to have lost its contents.
    pub async fn lost(&self) {
        self.0.lost.notified().await;
    }

    /// Says twice a second that this worker lives, until the future is dropped. Without it the other workers take over
    /// what it holds; so it has to go on for as long as anything is in flight.
    pub async fn keep_alive(&self) {
        let mut beats = tokio::time::interval(HEARTBEAT);
        loop {
            beats.tick().await;
            if !self.0.joined.load(Ordering::Relaxed) {
                // Before its first registration a worker is unknown, and nothing was lost.
                continue;
            }
            let beat = self.beat().await;
            if let Some(reports) = self.0.reports.get() {
                report(&reports.beats, beat.is_ok());
            }
            if let Err(fault) = beat {
                self.recover(fault).await;
            }
        }
    }

    /// Makes the worker known to the queue, which gives jobs to nobody else.
    pub async fn join(&self) {
        if let Source::Redis(redis) = &self.0.source
            && let Err(fault) = redis.register(&[]).await
        {
            self.note(&fault);
        }
        self.0.joined.store(true, Ordering::Relaxed);
    }

    /// Finished: the jobs go, and their slots are free. A fault is not the caller's concern: the next heartbeat tells
    /// Redis again.
    pub async fn acknowledge(&self, deliveries: &[DeliveryId]) {
        let freed = self.held().finish(deliveries);
        self.0.slots.add_permits(freed);
        if let Err(fault) = self.flush().await {
            self.note(&fault);
        }
    }

    /// Not finished: the jobs go back to the queue, in front of those of their flow, and their slots are free.
    pub async fn hand_back(&self, deliveries: &[DeliveryId]) {
        let freed = self.held().release(deliveries);
        self.0.slots.add_permits(freed);
        match &self.0.source {
            Source::Memory(queue, holder) => queue.hand_back(self.0.lane, *holder, deliveries),
            Source::Redis(redis) => {
                // Should this be dropped half-way, the next heartbeat has to look.
                self.0.doubtful.store(true, Ordering::Relaxed);
                if let Err(fault) = redis.hand_back(deliveries).await {
                    self.note(&fault);
                }
            }
        }
    }

    /// Compares the limits that the flows of these deliveries have by now with those under which the queue gave the
    /// deliveries out, and tells the queue where they differ. Returns the deliveries that it gave out too early, because
    /// it knew of no limits or of wider ones: hand them back instead of sending them, and it gives them out again as the
    /// limits permit.
    ///
    /// To be asked about every job before it is sent. It costs nothing when nothing differs: the answer to each fetch
    /// says which limits were applied, so that a queue that has lost them is noticed as well. A delivery that this
    /// consumer does not hold is left out.
    ///
    /// # Errors
    /// When Redis cannot be reached; the queue then keeps to what it knows.
    pub async fn limit(
        &self,
        deliveries: &[(DeliveryId, Limits)],
    ) -> Result<Vec<DeliveryId>, QueueError> {
        let relimited = self.held().relimit(deliveries, self.0.max_in_flight);
        if !relimited.flows.is_empty() {
            match &self.0.source {
                Source::Memory(queue, _) => queue.limit(relimited.flows),
                Source::Redis(redis) => redis.limit(relimited.flows).await?,
            }
        }
        Ok(relimited.too_early)
    }

    /// Signs off from the queue; what is still held goes back.
    pub async fn leave(&self) {
        let left = match &self.0.source {
            Source::Memory(queue, holder) => {
                let held: Vec<DeliveryId> =
                    self.held().all().into_iter().map(|(id, _)| id).collect();
                queue.hand_back(self.0.lane, *holder, &held);
                Ok(())
            }
            Source::Redis(redis) => match self.flush().await {
                Ok(()) => redis.leave().await,
                Err(fault) => Err(fault),
            },
        };
        if let Err(fault) = left {
            self.note(&fault);
        }
    }

    /// How many deliveries it holds.
    pub fn in_flight(&self) -> usize {
        self.held().len()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the queue what is finished.
    async fn flush(&self) -> Result<(), Fault> {
        let finished = self.held().finished();
        if finished.is_empty() {
            return Ok(());
        }
        match &self.0.source {
            Source::Memory(queue, holder) => queue.acknowledge(self.0.lane, *holder, &finished),
            Source::Redis(redis) => redis.acknowledge(&finished).await?,
        }
        self.held().settled(&finished);
        Ok(())
    }

    /// One fetch: waits for a free slot and for jobs, both for a bounded time, and returns nothing rather than fail.
    pub async fn fetch(&self) -> Vec<DeliveryId> {
        if let Some(reports) = self.0.reports.get() {
            reports.fetches.turns();
        }
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
        if let Some(reports) = self.0.reports.get() {
            report(&reports.fetches, fetched.is_ok());
        }
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
        let mut has_waited = false;
        loop {
            let taking = self.0.taking.lock().await;
            let Fetched { jobs, wait } = match &self.0.source {
                Source::Redis(redis) => redis.take(max).await?,
                Source::Memory(queue, holder) => {
                    queue.take(self.0.lane, *holder, max, self.0.max_in_flight)
                }
            };
            let fresh = self.held().take(jobs);
            drop(taking);
            if has_waited || !fresh.is_empty() {
                return Ok(fresh);
            }
            let wait = wait.map_or(WAIT, |wait| wait.min(WAIT));
            match &self.0.source {
                Source::Redis(redis) => redis.pushed(wait).await?,
                // The time-out is the bounded wait itself.
                Source::Memory(queue, _) => {
                    let _ = tokio::time::timeout(wait, queue.pushed(self.0.lane)).await;
                }
            }
            has_waited = true;
        }
    }

    async fn recover(&self, fault: Fault) {
        self.note(&fault);
        match (fault, &self.0.source) {
            (Fault::Unregistered, Source::Redis(redis)) => {
                let held = self.held().all();
                match redis.register(&held).await {
                    Ok(()) => {
                        // What was acknowledged meanwhile is registered all the same.
                        self.0.doubtful.store(true, Ordering::Relaxed);
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
                .filter(|id| !held.contains(id))
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

/// A queue that cannot be used is waited for.
fn report(to: &Loop, went_well: bool) {
    if went_well {
        to.succeeded();
    } else {
        to.waits_for_dependency();
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
