//! The queue in Redis: apalis-redis's connection, settings and layout of keys, with scripts of our own where its
//! scripts break (a backlog over 8,000 stops its queue for good, finished tasks stay forever, any fault ends the
//! worker).
//!
//! A job is a field of the `data` hash (delivery → tenant) for as long as it exists, and stands either in the `active`
//! list or in the `inflight` set of a worker. Every script works on a bounded number of jobs.

use std::{fmt, sync::LazyLock, time::Duration};

use apalis_redis::Config;
use redis::{
    Client, RedisError, Script, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig},
    pipe,
};

use super::{Job, Lane, QueueError};
use crate::ids::DeliveryId;

/// Jobs per script call: far below the limit of Lua's `unpack` (about 8,000), and short enough that nobody waits.
const BATCH: usize = 500;
/// How long a command may take. A blocking wait adds its own time.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one wait for new jobs lasts: heartbeats pause meanwhile.
pub(super) const WAIT: Duration = Duration::from_secs(1);
/// A worker that has said nothing for this long is taken for dead, and others take over its jobs.
const DEAD_AFTER_SECONDS: u32 = 5;

static PUSH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/push.lua")));
static FETCH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/fetch.lua")));
static HEARTBEAT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/heartbeat.lua")));
static REGISTER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/register.lua")));
static HAND_BACK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/hand_back.lua")));

/// The queues in Redis. Clones share a connection.
#[derive(Clone)]
pub struct RedisQueue {
    connection: ConnectionManager,
    client: Client,
}

impl fmt::Debug for RedisQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQueue").finish_non_exhaustive()
    }
}

/// Where a worker stands with Redis.
#[derive(Debug)]
pub(super) enum Fault {
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

/// A lane's keys, laid out as apalis-redis lays them out.
pub(super) fn keys(lane: Lane) -> Config {
    Config::default().queue(format!("relaypost:{}", lane.name()))
}

/// A connection that is made when it is first used and made again after every fault.
fn connect(client: &Client, timeout: Duration) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(COMMAND_TIMEOUT))
        .set_response_timeout(Some(timeout))
        .set_max_delay(Duration::from_millis(500))
        .set_number_of_retries(1);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

impl RedisQueue {
    pub(super) fn open(url: &str) -> Result<Self, QueueError> {
        let client = Client::open(url)?;
        Ok(Self {
            connection: connect(&client, COMMAND_TIMEOUT)?,
            client,
        })
    }

    pub(super) async fn push(&self, lane: Lane, jobs: &[Job]) -> Result<(), QueueError> {
        let keys = keys(lane);
        for batch in jobs.chunks(BATCH) {
            let mut call = PUSH.key(keys.job_data_hash());
            call.key(keys.active_jobs_list()).key(keys.signal_list());
            for job in batch {
                call.arg(job.delivery.to_string())
                    .arg(job.tenant.to_string());
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
            let found: Vec<Option<String>> =
                command.query_async(&mut self.connection.clone()).await?;
            let unknown = batch.iter().zip(found).filter(|(_, found)| found.is_none());
            missing.extend(unknown.map(|(job, _)| *job));
        }
        Ok(missing)
    }

    pub(super) async fn depth(&self, lane: Lane) -> Result<u64, QueueError> {
        let mut command = redis::cmd("LLEN");
        command.arg(keys(lane).active_jobs_list());
        Ok(command.query_async(&mut self.connection.clone()).await?)
    }

    pub(super) async fn ping(&self) -> Result<(), QueueError> {
        Ok(redis::cmd("PING")
            .query_async(&mut self.connection.clone())
            .await?)
    }

    pub(super) fn worker(&self, lane: Lane, name: &str) -> Result<RedisWorker, QueueError> {
        let keys = keys(lane);
        Ok(RedisWorker {
            queue: self.clone(),
            // A blocking wait holds up everything behind it on its connection, so it has one of its own.
            waiting: connect(&self.client, WAIT + COMMAND_TIMEOUT)?,
            name: name.to_owned(),
            in_flight: in_flight(&keys, name),
            keys,
        })
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        call: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        call.invoke_async(&mut self.connection.clone()).await
    }
}

fn in_flight(keys: &Config, worker: &str) -> String {
    format!("{}:{worker}", keys.inflight_jobs_set())
}

/// What one worker does in one lane.
#[derive(Clone)]
pub(super) struct RedisWorker {
    queue: RedisQueue,
    waiting: ConnectionManager,
    keys: Config,
    name: String,
    in_flight: String,
}

impl fmt::Debug for RedisWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWorker")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl RedisWorker {
    /// Makes the worker known, with what it still has in flight.
    pub(super) async fn register(&self, held: &[DeliveryId]) -> Result<(), Fault> {
        // The first call registers even when nothing is held.
        for batch in std::iter::once(&[][..]).chain(held.chunks(BATCH)) {
            let mut call = REGISTER.key(self.keys.workers_set());
            call.key(self.metadata(&self.name))
                .key(&self.in_flight)
                .key(self.keys.job_data_hash())
                .key("core:apalis:queues:list")
                .arg(&self.name);
            for delivery in batch {
                call.arg(delivery.to_string());
            }
            self.queue.run::<()>(&call).await?;
        }
        Ok(())
    }

    /// Says that the worker lives, and hands back the jobs of workers that do not.
    pub(super) async fn heartbeat(&self) -> Result<(), Fault> {
        let mut call = HEARTBEAT.key(self.keys.workers_set());
        call.arg(&self.name).arg(DEAD_AFTER_SECONDS);
        for dead in self.queue.run::<Vec<String>>(&call).await? {
            let jobs = self.bury(&dead).await?;
            tracing::warn!(worker = %dead, jobs, "took over the jobs of a worker that went silent");
        }
        Ok(())
    }

    /// Takes up to `max` jobs, without waiting.
    pub(super) async fn take(&self, max: usize) -> Result<Vec<DeliveryId>, Fault> {
        let mut call = FETCH.key(self.keys.workers_set());
        call.key(self.keys.active_jobs_list())
            .key(&self.in_flight)
            .key(self.keys.signal_list())
            .arg(max.min(BATCH))
            .arg(&self.name);
        let ids: Vec<String> = self.queue.run(&call).await?;
        let (jobs, strange): (Vec<_>, Vec<_>) = ids
            .iter()
            .map(|id| id.parse().map_err(|_| id))
            .partition(Result::is_ok);
        let strange: Vec<&String> = strange.into_iter().filter_map(Result::err).collect();
        if !strange.is_empty() {
            tracing::warn!(
                count = strange.len(),
                "removed entries of the queue that are no deliveries"
            );
            let mut command = redis::cmd("SREM");
            command.arg(&self.in_flight).arg(strange);
            command
                .query_async::<()>(&mut self.queue.connection.clone())
                .await?;
        }
        Ok(jobs.into_iter().filter_map(Result::ok).collect())
    }

    /// Returns when jobs were pushed, or after [`WAIT`].
    pub(super) async fn pushed(&self) -> Result<(), Fault> {
        let mut command = redis::cmd("BLPOP");
        command.arg(self.keys.signal_list()).arg(WAIT.as_secs());
        Ok(command.query_async(&mut self.waiting.clone()).await?)
    }

    /// Removes finished jobs and every trace of them.
    pub(super) async fn acknowledge(&self, deliveries: &[DeliveryId]) -> Result<(), Fault> {
        for batch in deliveries.chunks(BATCH) {
            let ids: Vec<String> = batch.iter().map(ToString::to_string).collect();
            pipe()
                .atomic()
                .srem(&self.in_flight, &ids)
                .ignore()
                .hdel(self.keys.job_data_hash(), &ids)
                .ignore()
                .query_async::<()>(&mut self.queue.connection.clone())
                .await?;
        }
        Ok(())
    }

    /// Puts jobs that this worker took back into the queue.
    pub(super) async fn hand_back(&self, deliveries: &[DeliveryId]) -> Result<(), Fault> {
        for batch in deliveries.chunks(BATCH) {
            let mut call = self.hand_back_call(&self.in_flight);
            for delivery in batch {
                call.arg(delivery.to_string());
            }
            self.queue.run::<()>(&call).await?;
        }
        Ok(())
    }

    /// Every job that Redis believes this worker is working on.
    pub(super) async fn believed(&self) -> Result<Vec<DeliveryId>, Fault> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(&self.in_flight);
        let ids: Vec<String> = command
            .query_async(&mut self.queue.connection.clone())
            .await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Signs off: everything in flight goes back, and the worker's keys go.
    pub(super) async fn leave(&self) -> Result<(), Fault> {
        self.bury(&self.name).await.map(|_| ())
    }

    async fn bury(&self, worker: &str) -> Result<usize, Fault> {
        let set = in_flight(&self.keys, worker);
        let mut moved = 0;
        loop {
            let count: usize = self.queue.run(&self.hand_back_call(&set)).await?;
            moved += count;
            if count == 0 {
                break;
            }
        }
        pipe()
            .atomic()
            .zrem(self.keys.workers_set(), worker)
            .ignore()
            .del(self.metadata(worker))
            .ignore()
            .query_async::<()>(&mut self.queue.connection.clone())
            .await?;
        Ok(moved)
    }

    fn hand_back_call(&self, set: &str) -> ScriptInvocation<'_> {
        let mut call = HAND_BACK.key(set);
        call.key(self.keys.active_jobs_list())
            .key(self.keys.signal_list())
            .arg(BATCH);
        call
    }

    fn metadata(&self, worker: &str) -> String {
        format!("{}:workers:metadata:{worker}", self.keys.queue.as_ref())
    }
}
