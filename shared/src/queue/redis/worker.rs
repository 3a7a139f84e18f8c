//! What one worker does in one lane in Redis.

use std::{fmt, time::Duration};

use apalis_redis::Config;
use redis::{RedisError, ScriptInvocation};

use super::{
    ACKNOWLEDGE, BATCH, BURY, COMMAND_TIMEOUT, FETCH, HAND_BACK, HEARTBEAT, REGISTER, RedisQueue,
    keys, link::Link,
};
use crate::{
    ids::DeliveryId,
    queue::{
        LIMITS_LAST_MS, Lane, Limits, QueueError, TURN,
        consumer::WAIT,
        flow::{Fetched, Owner, Taken},
    },
};

/// A worker that has said nothing for this long, which is eight heartbeats, is taken for dead, and others take over its jobs.
const DEAD_AFTER_SECONDS: u32 = 4;
/// The shortest wait for the bell. Redis takes 0 for "forever".
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Where a worker stands with Redis.
#[derive(Debug)]
pub(in crate::queue) enum Fault {
    /// Redis does not know the worker: it was flushed, restarted empty, or took the worker for dead.
    Unregistered,
    /// Redis does not answer.
    Unreachable(RedisError),
}

impl From<RedisError> for Fault {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some("NOTREGISTERED") => Self::Unregistered,
            _ => Self::Unreachable(error),
        }
    }
}

#[derive(Clone)]
pub(in crate::queue) struct RedisWorker {
    queue: RedisQueue,
    waiting: Link,
    keys: Config,
    lane: String,
    name: String,
    in_flight: String,
    /// The cap of an endpoint that has none of its own.
    max_in_flight: Option<u32>,
}

impl fmt::Debug for RedisWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWorker")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A flow's part of what a fetch brought: owner, cap, rate, deliveries.
type Part = (String, Option<u32>, Option<u32>, Vec<String>);

fn in_flight(keys: &Config, worker: &str) -> String {
    format!("{}:{worker}", keys.inflight_jobs_set())
}

impl RedisWorker {
    pub(in crate::queue) fn new(
        queue: &RedisQueue,
        lane: Lane,
        name: &str,
        max_in_flight: Option<u32>,
    ) -> Result<Self, QueueError> {
        let keys = keys(lane);
        Ok(Self {
            queue: queue.clone(),
            // A blocking wait holds up everything behind it on its connection, so it has one of its own.
            waiting: Link::new(&queue.client, WAIT + COMMAND_TIMEOUT),
            lane: keys.queue.as_ref().to_owned(),
            name: name.to_owned(),
            in_flight: in_flight(&keys, name),
            keys,
            max_in_flight,
        })
    }

    /// Makes the worker known, with what it still has in flight.
    pub(in crate::queue) async fn register(
        &self,
        held: &[(DeliveryId, Owner)],
    ) -> Result<(), Fault> {
        // The first call registers even when nothing is held.
        for batch in std::iter::once(&[][..]).chain(held.chunks(BATCH)) {
            let mut call = REGISTER.key(&self.lane);
            call.key(self.keys.workers_set())
                .key(self.metadata(&self.name))
                .key(&self.in_flight)
                .key("core:apalis:queues:list")
                .arg(&self.name);
            for (delivery, owner) in batch {
                call.arg(delivery.to_string()).arg(owner.to_string());
            }
            self.queue.run::<()>(&call).await?;
        }
        Ok(())
    }

    /// Says that the worker lives, and hands back the jobs of workers that do not.
    pub(in crate::queue) async fn heartbeat(&self) -> Result<(), Fault> {
        let mut call = HEARTBEAT.key(self.keys.workers_set());
        call.arg(&self.name).arg(DEAD_AFTER_SECONDS);
        for dead in self.queue.run::<Vec<String>>(&call).await? {
            let jobs = self.bury(&dead, Some(DEAD_AFTER_SECONDS)).await?;
            tracing::warn!(worker = %dead, jobs, "took over the jobs of a worker that went silent");
        }
        Ok(())
    }

    /// Takes up to `max` jobs, without waiting.
    pub(in crate::queue) async fn take(&self, max: usize) -> Result<Fetched, Fault> {
        let default_cap = self.max_in_flight.map(|cap| cap.to_string());
        let mut call = FETCH.key(&self.lane);
        call.key(self.keys.workers_set())
            .key(&self.in_flight)
            .arg(&self.name)
            .arg(max.min(BATCH))
            .arg(default_cap.unwrap_or_default())
            .arg(TURN)
            .arg(LIMITS_LAST_MS);
        let (wait, parts): (i64, Vec<Part>) = self.queue.run_once(&call).await?;
        Ok(Fetched {
            jobs: parts.iter().flat_map(taken).collect(),
            wait: u64::try_from(wait).ok().map(Duration::from_micros),
        })
    }

    /// Returns when the bell rings, or after `wait`.
    pub(in crate::queue) async fn pushed(&self, wait: Duration) -> Result<(), Fault> {
        let mut command = redis::cmd("BLPOP");
        command
            .arg(self.keys.signal_list())
            .arg(wait.max(SHORTEST_WAIT).as_secs_f64());
        Ok(command.query_async(&mut self.waiting.clone()).await?)
    }

    /// Removes finished jobs and every trace of them.
    pub(in crate::queue) async fn acknowledge(
        &self,
        deliveries: &[DeliveryId],
    ) -> Result<(), Fault> {
        for batch in deliveries.chunks(BATCH) {
            let mut call = ACKNOWLEDGE.key(&self.lane);
            self.run_on(call.key(&self.in_flight), batch).await?;
        }
        Ok(())
    }

    /// Puts jobs that this worker took back into the queue.
    pub(in crate::queue) async fn hand_back(&self, deliveries: &[DeliveryId]) -> Result<(), Fault> {
        // From the last to the first: each batch goes in front of what waits.
        for batch in deliveries.rchunks(BATCH) {
            let mut call = HAND_BACK.key(&self.lane);
            self.run_on(call.key(&self.in_flight), batch).await?;
        }
        Ok(())
    }

    pub(in crate::queue) async fn limit(
        &self,
        flows: impl IntoIterator<Item = (Owner, Limits)>,
    ) -> Result<(), QueueError> {
        self.queue.limit(flows).await
    }

    async fn run_on(
        &self,
        call: &mut ScriptInvocation<'_>,
        deliveries: &[DeliveryId],
    ) -> Result<(), RedisError> {
        for delivery in deliveries {
            call.arg(delivery.to_string());
        }
        self.queue.run(call).await
    }

    /// Every job that Redis believes this worker is working on.
    pub(in crate::queue) async fn believed(&self) -> Result<Vec<DeliveryId>, Fault> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(&self.in_flight);
        let ids: Vec<String> = self.queue.ask(&command).await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Signs off: everything in flight goes back, and the worker's keys go.
    pub(in crate::queue) async fn leave(&self) -> Result<(), Fault> {
        self.bury(&self.name, None).await.map(|_| ())
    }

    async fn bury(&self, worker: &str, silent_for: Option<u32>) -> Result<usize, Fault> {
        let mut call = BURY.key(&self.lane);
        call.key(self.keys.workers_set())
            .key(self.metadata(worker))
            .key(in_flight(&self.keys, worker))
            .arg(worker)
            .arg(BATCH)
            .arg(
                silent_for
                    .map(|seconds| seconds.to_string())
                    .unwrap_or_default(),
            );
        let mut moved = 0;
        loop {
            let (count, all): (usize, bool) = self.queue.run(&call).await?;
            moved += count;
            if all {
                return Ok(moved);
            }
        }
    }

    fn metadata(&self, worker: &str) -> String {
        format!("{}:workers:metadata:{worker}", self.lane)
    }
}

fn taken((owner, cap, rate, ids): &Part) -> Vec<Taken> {
    let limits = Limits {
        max_in_flight: *cap,
        rate_per_s: *rate,
    };
    // Only owners and deliveries are ever written.
    let Ok(owner) = owner.parse::<Owner>() else {
        return Vec::new();
    };
    let deliveries = ids.iter().filter_map(|id| id.parse().ok());
    deliveries
        .map(|delivery| Taken {
            delivery,
            owner,
            limits,
        })
        .collect()
}
