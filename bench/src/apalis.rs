//! The queue of apalis-redis as it comes, and ours on its layout of keys: the same jobs under the same worker runtime, with
//! handlers that do nothing. docs/decisions/queue.md says why there is one of ours.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use apalis::prelude::{TaskSink as _, WorkerBuilder, WorkerError};
use apalis_redis::{Config, RedisStorage};
use relaypost_shared::{
    clock::Clock,
    ids::{DeliveryId, TenantId},
    queue::{Consumer, Job, JobBackend, Lane, Queue},
};
use relaypost_testkit::RedisServer;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    Bench,
    cpu::{self, micros_each},
    load::per_second,
    report::grouped,
};

/// Jobs that are due when the worker starts.
const DUE: [usize; 3] = [1_000, 7_000, 20_000];
const LANE: Lane = Lane::Webhooks;
/// Jobs of one push.
const PUSH: usize = 500;
/// Jobs that our worker holds at a time at most; stock apalis has no such bound.
const SLOTS: usize = 1_000;
/// A worker that gets nothing done for so long has stopped.
const STALLED: Duration = Duration::from_secs(5);
/// How long after the last job Redis is looked at: by then all are acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
enum System {
    /// apalis-redis with its default settings.
    Stock,
    /// apalis-redis at its fastest: batches of 100, without locks and events.
    Tuned,
    Ours,
}

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock apalis-redis",
            Self::Tuned => "stock apalis-redis, tuned",
            Self::Ours => "ours",
        }
    }

    /// The settings of the stock queue.
    fn config(self) -> Config {
        let config = Config::default().queue("bench");
        match self {
            Self::Tuned => config.lock_tasks(false).emit_events(false).batch_size(100),
            _ => config,
        }
    }

    async fn push(self, redis: &RedisServer, ids: &[DeliveryId]) -> Result<()> {
        if let Self::Ours = self {
            let tenant = TenantId::generate(Clock::system().now());
            let job = |delivery: &DeliveryId| Job {
                delivery: *delivery,
                tenant,
                endpoint: None,
                limits: None,
            };
            let jobs: Vec<Job> = ids.iter().map(job).collect();
            return Ok(Queue::open(Some(&redis.url()))?.push(LANE, &jobs).await?);
        }
        let connection = apalis_redis::connect(redis.url()).await?;
        let mut storage = RedisStorage::<String>::new(connection).with_config(self.config());
        for batch in ids.chunks(PUSH) {
            let payloads = batch.iter().map(ToString::to_string).collect();
            storage.push_bulk(payloads).await?;
        }
        Ok(())
    }

    /// Starts a worker. Its task ends when the worker does.
    async fn work(
        self,
        redis: &RedisServer,
        name: &str,
        progress: &Arc<Progress>,
    ) -> Result<JoinHandle<Result<(), WorkerError>>> {
        let progress = progress.clone();
        if let Self::Ours = self {
            let queue = Queue::open(Some(&redis.url()))?;
            let consumer = Consumer::new(&queue, LANE, name, SLOTS, None)?;
            let (alive, backend) = (consumer.clone(), JobBackend::new(consumer.clone()));
            let worker = WorkerBuilder::new(name.to_owned()).backend(backend).build(
                move |ids: Vec<DeliveryId>| {
                    let (consumer, progress) = (consumer.clone(), progress.clone());
                    async move {
                        consumer.acknowledge(&ids).await;
                        progress.add(ids.len());
                    }
                },
            );
            return Ok(tokio::spawn(async move {
                tokio::select! {
                    ended = worker.run() => ended,
                    () = alive.keep_alive() => Ok(()),
                }
            }));
        }
        let connection = apalis_redis::connect(redis.url()).await?;
        let storage = RedisStorage::<String>::new(connection).with_config(self.config());
        let worker =
            WorkerBuilder::new(name.to_owned())
                .backend(storage)
                .build(move |_: String| {
                    progress.add(1);
                    std::future::ready(())
                });
        Ok(tokio::spawn(worker.run()))
    }
}

/// How many jobs are done.
struct Progress {
    done: AtomicUsize,
    due: usize,
    all: Notify,
}

impl Progress {
    fn add(&self, count: usize) {
        if self.done.fetch_add(count, Relaxed) + count >= self.due {
            self.all.notify_one();
        }
    }

    fn done(&self) -> usize {
        self.done.load(Relaxed)
    }
}

/// Measures everything, and returns what stopped and why.
pub(crate) async fn run(bench: &mut Bench, rounds: usize) -> Result<Vec<String>> {
    let mut stops = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for due in DUE {
            for system in [System::Stock, System::Tuned, System::Ours] {
                if let Some(why) = one(bench, system, due).await? {
                    println!("{why}");
                    stops.push(why);
                }
            }
        }
    }
    stops.sort();
    stops.dedup();
    Ok(stops)
}

/// One run on a Redis of its own. Returns why it stopped, if it did.
async fn one(bench: &mut Bench, system: System, due: usize) -> Result<Option<String>> {
    let redis = RedisServer::start().await;
    let now = Clock::system().now();
    let ids: Vec<DeliveryId> = (0..due).map(|_| DeliveryId::generate(now)).collect();
    let progress = Arc::new(Progress {
        done: AtomicUsize::new(0),
        due,
        all: Notify::new(),
    });
    let before = cpu::of_first_thread(redis.pid())?;
    system.push(&redis, &ids).await?;
    let began = Instant::now();
    let mut worker = system.work(&redis, "one", &progress).await?;
    let ended = finish(&progress, &mut worker).await;
    let took = began.elapsed();
    sleep(ACKNOWLEDGED).await;
    let used = cpu::of_first_thread(redis.pid())?.saturating_sub(before);
    worker.abort();
    let (what, report) = (
        format!("{}, {} due", system.name(), grouped(due as f64)),
        &mut bench.report,
    );
    report.add(format!("{what}: jobs done"), "", progress.done() as f64);
    let keys: f64 = redis.command(&["DBSIZE"]).await.trim().parse()?;
    report.add(format!("{what}: keys in Redis at the end"), "", keys);
    let Some(why) = ended else {
        report.add(&what, "jobs/s", per_second(due, took));
        let each = micros_each(used, due);
        report.add(format!("{what}: CPU of Redis for each job"), "µs", each);
        return Ok(None);
    };
    let done = progress.done();
    let mut next = system.work(&redis, "two", &progress).await?;
    let next_ended = finish(&progress, &mut next).await;
    next.abort();
    let next = next_ended.map_or("a second worker did the rest".to_owned(), |why| {
        format!(
            "a second worker, after {} more: {why}",
            progress.done() - done
        )
    });
    Ok(Some(format!(
        "{what}: stopped after {done} jobs: {why}; {next}"
    )))
}

/// Waits until all is done. Returns why nothing goes on, if that comes first.
async fn finish(
    progress: &Progress,
    worker: &mut JoinHandle<Result<(), WorkerError>>,
) -> Option<String> {
    loop {
        let before = progress.done();
        tokio::select! {
            () = progress.all.notified() => return None,
            ended = &mut *worker => return Some(match ended {
                Ok(Ok(())) => "the worker ended".to_owned(),
                Ok(Err(error)) => error.to_string().replace('\n', " "),
                Err(error) => error.to_string(),
            }),
            () = sleep(STALLED) => if progress.done() == before {
                return Some(format!("nothing done in {} s", STALLED.as_secs()));
            },
        }
    }
}
