//! The doorbell: queues that hold the ids of deliveries that are due now. The database is the truth; whatever a queue
//! loses is found there again by the sweep.
//!
//! Two forms share one interface: Redis, through apalis and on apalis-redis's layout of keys, and one inside the
//! process for the embedded mode.
//!
//! A lane is no single line. Jobs wait by [`Flow`]; tenants take turns, and within a tenant its flows, a few jobs at a
//! time, so that a backlog delays only its own endpoint. A flow that has as many jobs in flight as it may, or that is over
//! its rate, takes no turns until it may go on: its jobs wait here and take none of a worker's slots.

mod backend;
mod consumer;
mod flow;
mod memory;
mod redis;

use crate::{
    delivery::DeliveryKind,
    ids::{DeliveryId, EndpointId, TenantId},
    store::Delivery,
};

pub use backend::{JobBackend, WorkerEnded};
pub use consumer::Consumer;
pub use flow::{Flow, Limits};
pub use memory::MemoryQueue;
pub use redis::RedisQueue;

use flow::Owner;

/// Separate queues, so that one kind of work never waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Live webhooks.
    Webhooks,
    /// Live emails.
    Emails,
    /// Replays of either kind, which live traffic must not wait behind.
    Bulk,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 3] = [Self::Webhooks, Self::Emails, Self::Bulk];

    /// Its name in keys, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhooks => "webhooks",
            Self::Emails => "emails",
            Self::Bulk => "bulk",
        }
    }

    /// The lane that a delivery of this kind travels in. Once replayed, it is bulk work for the rest of its life.
    pub const fn of(kind: DeliveryKind, replayed: bool) -> Self {
        match kind {
            _ if replayed => Self::Bulk,
            DeliveryKind::Webhook => Self::Webhooks,
            DeliveryKind::Email => Self::Emails,
        }
    }
}

/// A hint that a delivery is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it goes, if it is a webhook.
    pub endpoint: Option<EndpointId>,
    /// The limits of its flow, where whoever makes the job knows them. They hold where the queue knows of none yet: what it
    /// knows may be newer.
    pub limits: Option<Limits>,
}

impl Job {
    /// The job of a delivery.
    pub const fn of(delivery: &Delivery) -> Self {
        Self {
            delivery: delivery.id,
            tenant: delivery.tenant_id,
            endpoint: delivery.endpoint_id,
            limits: None,
        }
    }

    /// The job of a new delivery, under limits where they are known, unless the delivery has to wait for its time.
    pub fn if_due(delivery: &Delivery, limits: Option<Limits>) -> Option<Self> {
        let job = Self::of(delivery);
        let job = limits.map_or(job, |limits| job.under(limits));
        delivery.dispatch_at.is_none().then_some(job)
    }

    /// The job with the limits of its endpoint.
    pub fn under(self, limits: Limits) -> Self {
        Self {
            limits: Some(limits.at_least_one()),
            ..self
        }
    }

    /// The line it stands in.
    pub fn flow(&self) -> Flow {
        self.endpoint
            .map_or(Flow::Tenant(self.tenant), Flow::Endpoint)
    }

    fn owner(&self) -> Owner {
        Owner {
            tenant: self.tenant,
            flow: self.flow(),
        }
    }
}

/// The queue could not be reached. Nothing is lost: what was to be queued stays in the database.
#[derive(Debug, thiserror::Error)]
#[error("the queue cannot be reached: {0}")]
pub struct QueueError(#[from] ::redis::RedisError);

impl QueueError {
    /// Why the queue cannot be used, in words that hold no secret.
    pub fn reason(&self) -> String {
        let error = &self.0;
        let text = match error.code() {
            Some("OOM") => "full: maxmemory is reached",
            Some("READONLY") => "read-only: a replica",
            Some("NOPERM") => "no permission for the queue's scripts",
            Some("NOAUTH" | "WRONGPASS") => "password refused",
            Some("BUSY") => "busy with a script",
            Some("LOADING") => "loading its data",
            Some("MISCONF") => "it cannot save its data and refuses writes",
            Some("NOREPLICAS") => "too few replicas for a write",
            Some("CLUSTERDOWN" | "MASTERDOWN") => "its cluster is down",
            _ if error.is_timeout() => "no answer in 2 s",
            _ if error.kind() == ::redis::ErrorKind::AuthenticationFailed => "password refused",
            _ if error.is_io_error() => "not reachable",
            Some(code) => return format!("it refuses the queue's scripts ({code})"),
            None => "not usable",
        };
        text.to_owned()
    }
}

/// The queues of all lanes. Clones share them.
#[derive(Clone, Debug)]
pub enum Queue {
    /// In Redis, shared by any number of processes.
    Redis(Box<RedisQueue>),
    /// In this process.
    Memory(MemoryQueue),
}

impl Queue {
    /// The queue at `redis_url`, or one in this process. Redis need not be up yet.
    ///
    /// # Errors
    /// When the address is not one of a Redis server.
    pub fn open(redis_url: Option<&str>) -> Result<Self, QueueError> {
        match redis_url {
            Some(url) => Ok(Self::Redis(Box::new(RedisQueue::open(url)?))),
            None => Ok(Self::Memory(MemoryQueue::default())),
        }
    }

    /// Queues jobs. A delivery that already has a job in this lane gets no second one; if it is being worked on, its job
    /// comes again once it is acknowledged, so that nothing is lost that is pushed between a record and its acknowledgement.
    ///
    /// # Errors
    /// When Redis cannot be reached; some of the jobs may have been queued.
    pub async fn push(&self, lane: Lane, jobs: &[Job]) -> Result<(), QueueError> {
        match self {
            Self::Redis(queue) => queue.push(lane, jobs).await,
            Self::Memory(queue) => {
                queue.push(lane, jobs);
                Ok(())
            }
        }
    }

    /// Sets the limits of an endpoint for what waits already, so that a change holds at once. Whatever the queue is not told
    /// it learns from the next job of the endpoint that a worker takes.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn limit(
        &self,
        tenant: TenantId,
        endpoint: EndpointId,
        limits: Limits,
    ) -> Result<(), QueueError> {
        let flow = Flow::Endpoint(endpoint);
        let told = [(Owner { tenant, flow }, limits.at_least_one())];
        match self {
            Self::Redis(queue) => queue.limit(told).await,
            Self::Memory(queue) => {
                queue.limit(told);
                Ok(())
            }
        }
    }

    /// Which of these jobs are neither waiting nor being worked on.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn missing(&self, lane: Lane, jobs: &[Job]) -> Result<Vec<Job>, QueueError> {
        match self {
            Self::Redis(queue) => queue.missing(lane, jobs).await,
            Self::Memory(queue) => Ok(queue.missing(lane, jobs)),
        }
    }

    /// How many jobs wait in this lane, those of flows that may not go on at the moment included.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn depth(&self, lane: Lane) -> Result<u64, QueueError> {
        match self {
            Self::Redis(queue) => queue.depth(lane).await,
            Self::Memory(queue) => Ok(queue.depth(lane)),
        }
    }

    /// How many jobs of one flow wait in this lane.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn waiting(&self, lane: Lane, flow: Flow) -> Result<u64, QueueError> {
        match self {
            Self::Redis(queue) => queue.waiting(lane, flow).await,
            Self::Memory(queue) => Ok(queue.waiting(lane, flow)),
        }
    }

    /// Whether the queue can be used: runs a script that writes, as everything on the queue does. A Redis that is full,
    /// read-only or without permission for scripts answers a ping all the same.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn probe(&self) -> Result<(), QueueError> {
        match self {
            Self::Redis(queue) => queue.probe().await,
            Self::Memory(_) => Ok(()),
        }
    }

    /// What a worker could start now in this lane, and what of it has waited for longest. `default_cap` is the cap of
    /// endpoints that have none of their own. It looks at a bounded number of flows.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn startable(
        &self,
        lane: Lane,
        default_cap: Option<u32>,
    ) -> Result<Startable, QueueError> {
        match self {
            Self::Redis(queue) => queue.startable(lane, default_cap).await,
            Self::Memory(queue) => Ok(queue.startable(lane, default_cap)),
        }
    }
}

/// How long a delivery that the dispatcher has put onto the queue is left alone: `dispatch_at` is so far ahead of the moment
/// in which it was put there.
pub const CLAIM: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// What a lane holds at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startable {
    /// How many jobs wait, those of flows that may not go on included.
    pub depth: u64,
    /// How many of them a worker could start now: without those over their flow's cap or rate. Counted over at most
    /// [`FLOWS_LOOKED_AT`] flows.
    pub startable: u64,
    /// The first job of each flow that may go on, as far as they were looked at.
    pub heads: Vec<DeliveryId>,
}

/// How many flows a look at what can be started takes in: a few milliseconds of Redis.
pub const FLOWS_LOOKED_AT: usize = 1_000;

/// Jobs that a flow may take in one turn while others wait. What a turn costs is shared by them; what it delays is one
/// turn of everybody else.
const TURN: usize = 8;
/// How long a queue remembers the limits of a flow after their last use. They are told again before anything is sent.
const LIMITS_LAST: std::time::Duration = std::time::Duration::from_millis(LIMITS_LAST_MS);
const LIMITS_LAST_MS: u64 = 3_600_000;
