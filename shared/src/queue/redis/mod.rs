//! The queue in Redis: apalis-redis's connection, settings and registration of workers, with scripts of our own where its
//! scripts break (a backlog over 8,000 stops its queue for good, finished tasks stay forever, any fault ends the worker).
//!
//! # Keys
//!
//! Those of a lane begin with `relaypost:{lane}`. An owner is `{tenant} {flow}`; a flow is the id of an endpoint, or of a
//! tenant for its emails.
//!
//! | key | is | holds |
//! |---|---|---|
//! | `…:data` | hash | delivery → owner, for as long as the job exists |
//! | `…:waiting:{flow}` | list | the flow's deliveries that wait |
//! | `…:active` | list | the ring of tenants with a flow that is ready |
//! | `…:active:{tenant}` | list | the tenant's ring of flows that are ready |
//! | `…:delayed` | sorted set | owner, by the time (µs) at which the flow's rate lets it go on |
//! | `…:inflight:{worker}` | set | deliveries that the worker took and has not acknowledged |
//! | `…:again` | set | deliveries that were pushed while they had a job: acknowledged, it goes back into the queue |
//! | `…:depth` | number | how many jobs wait |
//! | `…:signal` | list | the bell that idle workers wait for: one element, or none |
//! | `…:workers`, `…:workers:metadata:{worker}` | | registrations, as apalis-redis has them |
//! | `relaypost:flows:inflight` | hash | flow → jobs in flight, over all lanes and workers |
//! | `relaypost:flows:blocked` | hash | flow → the lanes in which it waits for a place |
//! | `relaypost:flows:limits:{flow}` | hash | `cap`, `rate`, and `tat`, the state of the rate; goes when it is not used |
//! | `relaypost:probe` | text | what a readiness probe writes; goes after a minute |
//!
//! A job stands either in the list of its flow or in the in-flight set of a worker. A flow whose list is not empty stands
//! in exactly one place of its lane: in its tenant's ring, with the blocked, or with the delayed. A count changes only
//! together with an in-flight set and by as much, in one script, so that no crash can leave the one without the other.
//!
//! Every script works on a bounded number of jobs and flows. They make up names of keys, which a Redis Cluster would not
//! let them do: it has to be one server.
//!
//! # Who wakes whom
//!
//! Whatever puts a flow into a ring rings the lane's bell: a push, a hand-back, a place that becomes free in whichever
//! lane, new limits. A worker that heard it and left something over rings it again. Delayed flows ring no bell: a fetch
//! that finds nothing else says when the first of them is due, and the worker waits no longer than that.

mod link;
mod worker;

use std::{collections::HashMap, fmt, sync::LazyLock, time::Duration};

use apalis_redis::Config;
use redis::{Client, Cmd, RedisError, Script, ScriptInvocation};

use super::{
    FLOWS_LOOKED_AT, Flow, Job, LIMITS_LAST_MS, Lane, Limits, QueueError, Startable, flow::Owner,
};
use crate::ids::DeliveryId;
use link::{Link, ends_connection};

pub(super) use worker::{Fault, RedisWorker};

/// Jobs per script call: far below the limit of Lua's `unpack` (about 8,000), and short enough that nobody waits.
const BATCH: usize = 500;
/// How long a command may take. A blocking wait adds its own time.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the probe's key stays, in milliseconds.
const PROBE_LASTS_MS: u32 = 60_000;

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("lua/common.lua"), include_str!($file)))
        });
    };
}

script!(PUSH, "lua/push.lua");
script!(FETCH, "lua/fetch.lua");
script!(ACKNOWLEDGE, "lua/acknowledge.lua");
script!(HAND_BACK, "lua/hand_back.lua");
script!(HEARTBEAT, "lua/heartbeat.lua");
script!(BURY, "lua/bury.lua");
script!(REGISTER, "lua/register.lua");
script!(LIMIT, "lua/limit.lua");
script!(PROBE, "lua/probe.lua");
script!(STARTABLE, "lua/startable.lua");

/// The queues in Redis. Clones share a connection.
#[derive(Clone)]
pub struct RedisQueue {
    link: Link,
    client: Client,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue").finish_non_exhaustive()
    }
}

/// A lane's keys, laid out as apalis-redis lays them out.
fn keys(lane: Lane) -> Config {
    Config::default().queue(format!("relaypost:{}", lane.name()))
}

/// The beginning of all keys of a lane.
fn lane_key(lane: Lane) -> String {
    keys(lane).queue.as_ref().to_owned()
}

impl RedisQueue {
    pub(super) fn open(url: &str) -> Result<Self, QueueError> {
        let client = Client::open(url)?;
        Ok(Self {
            link: Link::new(&client, COMMAND_TIMEOUT),
            client,
        })
    }

    pub(super) async fn push(&self, lane: Lane, jobs: &[Job]) -> Result<(), QueueError> {
        let lane = lane_key(lane);
        for batch in jobs.chunks(BATCH) {
            let owners = by_owner(batch);
            let mut call = PUSH.key(&lane);
            call.arg(batch.len()).arg(LIMITS_LAST_MS);
            for delivery in owners.iter().flat_map(|of| &of.deliveries) {
                call.arg(delivery.to_string());
            }
            for of in &owners {
                call.arg(of.owner.to_string()).arg(of.deliveries.len());
                add_limits(&mut call, of.limits);
            }
            self.run::<()>(&call).await?;
        }
        Ok(())
    }

    pub(super) async fn missing(&self, lane: Lane, jobs: &[Job]) -> Result<Vec<Job>, QueueError> {
        let data = keys(lane).job_data_hash();
        let mut missing = Vec::new();
        for batch in jobs.chunks(BATCH) {
            let mut command = redis::cmd("HMGET");
            command.arg(&data);
            for job in batch {
                command.arg(job.delivery.to_string());
            }
            let found: Vec<Option<String>> = self.ask(&command).await?;
            let unknown = batch.iter().zip(found).filter(|(_, found)| found.is_none());
            missing.extend(unknown.map(|(job, _)| *job));
        }
        Ok(missing)
    }

    pub(super) async fn depth(&self, lane: Lane) -> Result<u64, QueueError> {
        let mut command = redis::cmd("GET");
        command.arg(format!("{}:depth", lane_key(lane)));
        let depth: Option<u64> = self.ask(&command).await?;
        Ok(depth.unwrap_or(0))
    }

    pub(super) async fn waiting(&self, lane: Lane, flow: Flow) -> Result<u64, QueueError> {
        let mut command = redis::cmd("LLEN");
        command.arg(format!("{}:waiting:{flow}", lane_key(lane)));
        Ok(self.ask(&command).await?)
    }

    pub(super) async fn limit(
        &self,
        flows: impl IntoIterator<Item = (Owner, Limits)>,
    ) -> Result<(), QueueError> {
        let lanes = Lane::ALL.map(lane_key);
        let flows: Vec<(Owner, Limits)> = flows.into_iter().collect();
        for batch in flows.chunks(BATCH) {
            let mut call = LIMIT.key(&lanes[..]);
            call.arg(LIMITS_LAST_MS);
            for (owner, limits) in batch {
                call.arg(owner.to_string());
                add_limits(&mut call, *limits);
            }
            self.run::<()>(&call).await?;
        }
        Ok(())
    }

    pub(super) async fn probe(&self) -> Result<(), QueueError> {
        let mut call = PROBE.key("relaypost:probe");
        Ok(self.run::<()>(call.arg(PROBE_LASTS_MS)).await?)
    }

    pub(super) async fn startable(
        &self,
        lane: Lane,
        default_cap: Option<u32>,
    ) -> Result<Startable, QueueError> {
        let cap = default_cap.map(|cap| cap.to_string()).unwrap_or_default();
        let mut call = STARTABLE.key(lane_key(lane));
        call.arg(FLOWS_LOOKED_AT).arg(cap);
        let (depth, startable, heads): (u64, u64, Vec<String>) = self.run(&call).await?;
        Ok(Startable {
            depth,
            startable,
            heads: heads.iter().filter_map(|id| id.parse().ok()).collect(),
        })
    }

    /// Calls a script that may run twice: when the connection was lost it is called once more, on a new one.
    async fn run<T: redis::FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        match self.run_once(call).await {
            Err(error) if ends_connection(&error) => self.run_once(call).await,
            answer => answer,
        }
    }

    /// Calls a script that does something else the second time.
    async fn run_once<T: redis::FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        call.invoke_async(&mut self.link.clone()).await
    }

    /// Sends a command that changes nothing, once more on a new connection when the first one was lost.
    async fn ask<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        match command.query_async(&mut self.link.clone()).await {
            Err(error) if ends_connection(&error) => {
                command.query_async(&mut self.link.clone()).await
            }
            answer => answer,
        }
    }
}

/// Cap and rate, as the scripts take them.
fn add_limits(call: &mut ScriptInvocation<'_>, limits: Limits) {
    for limit in [limits.max_in_flight, limits.rate_per_s] {
        call.arg(limit.map(|n| n.to_string()).unwrap_or_default());
    }
}

/// The jobs of one owner, in their order.
struct Owned {
    owner: Owner,
    /// Those of the last job that brings any.
    limits: Limits,
    deliveries: Vec<DeliveryId>,
}

/// The jobs of each owner, the owners in the order in which they occur: they get their turns in it.
fn by_owner(jobs: &[Job]) -> Vec<Owned> {
    let mut places = HashMap::new();
    let mut owners: Vec<Owned> = Vec::new();
    for job in jobs {
        let place = *places.entry(job.owner()).or_insert_with(|| {
            owners.push(Owned {
                owner: job.owner(),
                limits: Limits::default(),
                deliveries: Vec::new(),
            });
            owners.len() - 1
        });
        let of = &mut owners[place];
        of.limits = job.limits.unwrap_or(of.limits);
        of.deliveries.push(job.delivery);
    }
    owners
}
