//! The queue in Redis, driven by apalis's worker runtime as a worker drives it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use apalis::prelude::{Monitor, WorkerBuilder};
use relaypost_shared::{
    clock::Clock,
    ids::{DeliveryId, TenantId},
    queue::{Consumer, Job, JobBackend, Lane, Queue},
};
use relaypost_testkit::{RedisServer, eventually};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinHandle,
};

use crate::support::{DEADLINE, work_keys};

const LANE: Lane = Lane::Webhooks;

fn jobs(count: usize) -> Vec<Job> {
    let now = Clock::system().now();
    let tenant = TenantId::generate(now);
    (0..count)
        .map(|_| Job {
            delivery: DeliveryId::generate(now),
            tenant,
            endpoint: None,
            limits: None,
        })
        .collect()
}

/// A worker that counts how often it got each delivery, and acknowledges when the gate lets it.
pub(crate) struct Counter {
    consumer: Consumer,
    seen: Arc<Mutex<HashMap<DeliveryId, u32>>>,
    gate: Arc<Semaphore>,
    running: JoinHandle<()>,
}

impl Counter {
    pub(crate) fn start(queue: &Queue, name: &str, slots: usize, open: bool) -> Self {
        let consumer = Consumer::new(queue, LANE, name, slots, None).unwrap();
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let gate = Arc::new(Semaphore::new(if open {
            Semaphore::MAX_PERMITS
        } else {
            0
        }));
        let (acknowledging, counting, door) = (consumer.clone(), seen.clone(), gate.clone());
        let worker = WorkerBuilder::new(name)
            .backend(JobBackend::new(consumer.clone()))
            .build(move |deliveries: Vec<DeliveryId>| {
                let (consumer, seen, door) =
                    (acknowledging.clone(), counting.clone(), door.clone());
                async move {
                    for delivery in &deliveries {
                        *seen.lock().unwrap().entry(*delivery).or_insert(0) += 1;
                    }
                    let pass = door
                        .acquire_many(u32::try_from(deliveries.len()).unwrap())
                        .await
                        .unwrap();
                    consumer.acknowledge(&deliveries).await;
                    drop(pass);
                }
            });
        let alive = consumer.clone();
        let running = tokio::spawn(async move {
            tokio::select! {
                ended = worker.run() => ended.unwrap(),
                () = alive.keep_alive() => {}
            }
        });
        Self {
            consumer,
            seen,
            gate,
            running,
        }
    }

    fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn most_often(&self) -> u32 {
        self.seen
            .lock()
            .unwrap()
            .values()
            .copied()
            .max()
            .unwrap_or(0)
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        eventually(DEADLINE, || async {
            let seen = self.seen();
            if seen >= count {
                Ok(())
            } else {
                Err(format!("{seen} of {count} arrived"))
            }
        })
        .await;
    }

    pub(crate) async fn wait_idle(&self) {
        eventually(DEADLINE, || async {
            match self.consumer.in_flight() {
                0 => Ok(()),
                count => Err(format!("{count} in flight")),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_backlog_of_50_000_drains_to_the_last_key_and_each_job_comes_once() {
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    queue.push(LANE, &jobs(50_000)).await.unwrap();
    assert_eq!(queue.depth(LANE).await.unwrap(), 50_000);
    let worker = Counter::start(&queue, "one", 500, true);
    worker.wait_for(50_000).await;
    worker.wait_idle().await;
    assert_eq!(worker.most_often(), 1);
    assert!(!worker.running.is_finished());
    eventually(DEADLINE, || async {
        let keys = work_keys(&redis).await;
        if keys.is_empty() {
            Ok(())
        } else {
            Err(format!("left: {keys:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_delivery_has_one_job_at_a_time() {
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    let jobs = jobs(10);
    queue.push(LANE, &jobs).await.unwrap();
    queue.push(LANE, &jobs).await.unwrap();
    assert_eq!(queue.depth(LANE).await.unwrap(), 10);
    assert!(queue.missing(LANE, &jobs).await.unwrap().is_empty());
    let worker = Counter::start(&queue, "one", 500, false);
    worker.wait_for(10).await;
    queue.push(LANE, &jobs).await.unwrap();
    assert_eq!(
        queue.depth(LANE).await.unwrap(),
        0,
        "what is being worked on is not queued beside itself, but comes again"
    );
    worker.gate.add_permits(1_000);
    worker.wait_idle().await;
    eventually(DEADLINE, || async {
        let missing = queue.missing(LANE, &jobs).await.unwrap().len();
        if missing == 10 {
            Ok(())
        } else {
            Err(format!("{missing} forgotten"))
        }
    })
    .await;
    queue.push(LANE, &jobs).await.unwrap();
    eventually(DEADLINE, || async {
        if worker.most_often() == 3 {
            Ok(())
        } else {
            Err("a finished delivery can have a new job".to_owned())
        }
    })
    .await;
}

#[tokio::test]
async fn an_entry_that_is_no_delivery_is_removed() {
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    redis
        .command(&["LPUSH", "relaypost:webhooks:active", "garbage"])
        .await;
    queue.push(LANE, &jobs(1)).await.unwrap();
    let worker = Counter::start(&queue, "one", 500, true);
    worker.wait_for(1).await;
    worker.wait_idle().await;
    eventually(DEADLINE, || async {
        let keys = work_keys(&redis).await;
        if keys.is_empty() {
            Ok(())
        } else {
            Err(format!("left: {keys:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn a_worker_takes_no_more_than_it_has_slots_for() {
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    queue.push(LANE, &jobs(1_000)).await.unwrap();
    let worker = Counter::start(&queue, "one", 100, false);
    worker.wait_for(100).await;
    assert_eq!(
        (worker.seen(), queue.depth(LANE).await.unwrap()),
        (100, 900)
    );
    worker.gate.add_permits(10_000);
    worker.wait_for(1_000).await;
}

#[tokio::test]
async fn the_jobs_of_a_worker_that_went_silent_are_taken_over() {
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    queue.push(LANE, &jobs(200)).await.unwrap();
    let silent = Counter::start(&queue, "silent", 200, false);
    silent.wait_for(200).await;
    silent.running.abort();
    let other = Counter::start(&queue, "other", 500, true);
    other.wait_for(200).await;
    other.wait_idle().await;
    eventually(DEADLINE, || async {
        let keys = work_keys(&redis).await;
        if keys.is_empty() {
            Ok(())
        } else {
            Err(format!("left: {keys:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_flush_the_worker_registers_again_says_so_and_keeps_what_it_holds() {
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    let held = jobs(50);
    queue.push(LANE, &held).await.unwrap();
    let worker = Counter::start(&queue, "one", 500, false);
    worker.wait_for(50).await;
    redis.command(&["FLUSHALL"]).await;
    tokio::time::timeout(DEADLINE, worker.consumer.lost())
        .await
        .unwrap();
    assert!(
        queue.missing(LANE, &held).await.unwrap().is_empty(),
        "what is in flight is known again"
    );
    queue.push(LANE, &jobs(50)).await.unwrap();
    worker.wait_for(100).await;
    worker.gate.add_permits(10_000);
    worker.wait_idle().await;
    assert_eq!(worker.most_often(), 1);
    assert!(!worker.running.is_finished());
}

#[tokio::test]
async fn a_redis_that_dies_and_comes_back_empty_ends_no_worker() {
    let mut redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    let worker = Counter::start(&queue, "one", 500, true);
    queue.push(LANE, &jobs(10)).await.unwrap();
    worker.wait_for(10).await;
    redis.kill9().await;
    assert!(queue.push(LANE, &jobs(1)).await.is_err());
    redis.restart_empty().await;
    tokio::time::timeout(DEADLINE, worker.consumer.lost())
        .await
        .unwrap();
    queue.push(LANE, &jobs(10)).await.unwrap();
    worker.wait_for(20).await;
    assert!(!worker.running.is_finished());
}

#[tokio::test]
async fn a_worker_that_leaves_hands_back_what_it_holds() {
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    queue.push(LANE, &jobs(1_200)).await.unwrap();
    let worker = Counter::start(&queue, "one", 1_200, false);
    worker.wait_for(1_200).await;
    worker.running.abort();
    worker.consumer.leave().await;
    assert_eq!(queue.depth(LANE).await.unwrap(), 1_200);
    assert!(
        !redis
            .keys()
            .await
            .iter()
            .any(|key| key.contains("workers:metadata") || key.contains("inflight"))
    );
}

#[tokio::test]
async fn a_worker_that_ends_unasked_is_started_again_by_the_monitor_and_one_that_is_told_to_is_not()
{
    let redis = RedisServer::start().await;
    let queue = Queue::open(Some(&redis.url())).unwrap();
    let consumer = Consumer::new(&queue, LANE, "one", 500, None).unwrap();
    let (stopping, seen) = (watch::Sender::new(false), Arc::new(Mutex::new(Vec::new())));
    let (told, counting, taking) = (stopping.clone(), seen.clone(), consumer.clone());
    let monitor = Monitor::new()
        .should_restart(|_, _| true)
        .register(move |_| {
            let backend = JobBackend::new(taking.clone()).until(told.subscribe());
            let (consumer, seen) = (taking.clone(), counting.clone());
            WorkerBuilder::new("one")
                .backend(backend)
                .build(move |deliveries: Vec<DeliveryId>| {
                    let (consumer, seen) = (consumer.clone(), seen.clone());
                    async move {
                        seen.lock().unwrap().extend(deliveries.iter().copied());
                        consumer.acknowledge(&deliveries).await;
                    }
                })
        });
    let context = monitor.context();
    let running = tokio::spawn(monitor.run());
    for round in 1..=3 {
        queue.push(LANE, &jobs(100)).await.unwrap();
        eventually(DEADLINE, || async {
            let count = seen.lock().unwrap().len();
            match count == round * 100 {
                true => Ok(()),
                false => Err(format!("{count} arrived")),
            }
        })
        .await;
        context.stop_worker("one").unwrap();
        eventually(DEADLINE, || async {
            let restarts = context.workers()[0].restarts();
            match restarts == round {
                true => Ok(()),
                false => Err(format!("{restarts} restarts")),
            }
        })
        .await;
    }
    queue.push(LANE, &jobs(100)).await.unwrap();
    eventually(DEADLINE, || async {
        let count = seen.lock().unwrap().len();
        (count == 400).then_some(()).ok_or(count.to_string())
    })
    .await;
    stopping.send_replace(true);
    context.shutdown().unwrap();
    running.await.unwrap().unwrap();
    let mut ids = seen.lock().unwrap().clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 400, "each once");
    assert_eq!(consumer.in_flight(), 0);
}
