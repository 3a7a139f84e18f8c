//! Both forms of the queue, and workers that do what a test tells them.

use std::{future::Future, time::Duration};

use relaypost_shared::{
    clock::Clock,
    ids::{DeliveryId, EndpointId, TenantId},
    queue::{Consumer, Job, Lane, Limits, Queue},
};
use relaypost_testkit::RedisServer;
use tokio::task::JoinHandle;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A queue, and the Redis behind it where there is one.
pub(crate) struct Form {
    pub(crate) queue: Queue,
    pub(crate) redis: Option<RedisServer>,
}

impl Form {
    pub(crate) fn memory() -> Form {
        Form {
            queue: Queue::open(None).unwrap(),
            redis: None,
        }
    }

    pub(crate) async fn redis() -> Form {
        let redis = RedisServer::start().await;
        Form {
            queue: Queue::open(Some(&redis.url())).unwrap(),
            redis: Some(redis),
        }
    }

    /// A consumer that the queue knows. Endpoints have the cap `cap` by default.
    pub(crate) async fn consumer(&self, lane: Lane, name: &str, cap: Option<u32>) -> Consumer {
        let consumer = Consumer::new(&self.queue, lane, name, 1_000, cap).unwrap();
        consumer.join().await;
        consumer
    }

    /// The worker is dead: it never speaks again, and has been silent for long. In memory, where worker and queue
    /// die together, it leaves.
    pub(crate) async fn die(&self, consumer: &Consumer, name: &str) {
        match &self.redis {
            Some(redis) => {
                let workers = format!("relaypost:{}:workers", consumer.lane().name());
                redis.command(&["ZADD", &workers, "1", name]).await;
            }
            None => consumer.leave().await,
        }
    }

    /// Sets limits as a worker does: for a job that it has, which goes back if it came too early.
    pub(crate) async fn limit(&self, job: Job, limits: Limits) {
        self.queue.push(Lane::Webhooks, &[job]).await.unwrap();
        let consumer = self.consumer(Lane::Webhooks, "limiter", None).await;
        assert_eq!(consumer.fetch().await, [job.delivery]);
        consumer.limit(&[(job.delivery, limits)]).await.unwrap();
        consumer.acknowledge(&[job.delivery]).await;
        consumer.leave().await;
    }

    /// Every key that holds work, or counts it.
    pub(crate) async fn work_keys(&self) -> Vec<String> {
        match &self.redis {
            Some(redis) => work_keys(redis).await,
            None => Vec::new(),
        }
    }
}

pub(crate) async fn work_keys(redis: &RedisServer) -> Vec<String> {
    let parts = [
        ":data",
        ":active",
        ":inflight",
        ":waiting",
        ":delayed",
        ":depth",
        ":blocked",
    ];
    let keys = redis.keys().await;
    keys.into_iter()
        .filter(|key| parts.iter().any(|part| key.contains(part)))
        .collect()
}

/// Runs a test on both forms of the queue.
pub(crate) async fn on_both<F: Future<Output = ()>>(test: impl Fn(Form) -> F) {
    test(Form::memory()).await;
    test(Form::redis().await).await;
}

/// Says that the worker lives until this is dropped.
pub(crate) struct Alive(JoinHandle<()>);

impl Alive {
    pub(crate) fn keep(consumer: &Consumer) -> Alive {
        let consumer = consumer.clone();
        Alive(tokio::spawn(async move { consumer.keep_alive().await }))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::generate(Clock::system().now())
}

/// Jobs of one new endpoint of this tenant.
pub(crate) fn webhooks(tenant: TenantId, count: usize) -> Vec<Job> {
    let endpoint = EndpointId::generate(Clock::system().now());
    more(tenant, endpoint, count)
}

/// Jobs of this endpoint.
pub(crate) fn more(tenant: TenantId, endpoint: EndpointId, count: usize) -> Vec<Job> {
    let now = Clock::system().now();
    (0..count)
        .map(|_| Job {
            delivery: DeliveryId::generate(now),
            tenant,
            endpoint: Some(endpoint),
            limits: None,
        })
        .collect()
}

/// A tenant's emails.
pub(crate) fn emails(tenant: TenantId, count: usize) -> Vec<Job> {
    let jobs = webhooks(tenant, count);
    jobs.into_iter()
        .map(|job| Job {
            endpoint: None,
            ..job
        })
        .collect()
}
