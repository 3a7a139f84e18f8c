//! What must survive when processes and Redis do not. These are guarantees of the stack; the embedded backend has
//! neither workers nor Redis to lose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use relaypost_testkit::{Backend, Receiver, Reply, Tenant, World, eventually};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::{SOON, options};

/// The deadline of what takes its time: a large backlog, or work taken over from a dead worker.
const LATER: Duration = Duration::from_secs(300);

/// These tests, and those of silent connections, load the machine; side by side they would only measure each other.
static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) async fn turn(test: &str) -> Option<MutexGuard<'static, ()>> {
    if Backend::from_env() == Backend::Stack {
        return Some(TURN.lock().await);
    }
    println!("{test}: a guarantee of the stack backend, not run on the embedded one");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_50_000_arrives_exactly_once() {
    const MESSAGES: usize = 10_000;
    let Some(_turn) = turn("backlog").await else {
        return;
    };
    let mut world = World::start(options().workers(0)).await;
    let tenant = world.tenant("acme").await;
    let mut receivers = Vec::new();
    for _ in 0..5 {
        let receiver = Receiver::start().await;
        receiver.record(false);
        tenant.endpoint(&receiver.url("/"), &[]).await;
        receivers.push(receiver);
    }
    publish_many(&tenant, MESSAGES).await;
    world.start_worker().await;
    for receiver in &receivers {
        receiver.wait_for_distinct(MESSAGES, LATER).await;
    }
    tenant.wait_until_nothing_is_pending(LATER).await;
    for receiver in &receivers {
        assert_eq!(
            (receiver.distinct(), receiver.count()),
            (MESSAGES, MESSAGES)
        );
    }
    world.assert_all_running();
    let redis = world.redis();
    let left = eventually(SOON, || async {
        let keys = redis.keys().await;
        let work = |key: &String| {
            [
                ":active",
                ":data",
                ":inflight",
                ":waiting",
                ":delayed",
                ":depth",
                ":blocked",
            ]
            .iter()
            .any(|word| key.contains(word))
        };
        if keys.iter().any(work) {
            Err(format!("left in Redis: {keys:?}"))
        } else {
            Ok(keys)
        }
    });
    println!("left in Redis: {:?}", left.await);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_s_work_is_taken_over() {
    const MESSAGES: usize = 200;
    let Some(_turn) = turn("killed worker").await else {
        return;
    };
    let settings = options()
        .workers(1)
        .env("WEBHOOK_CONCURRENCY", "400")
        .env("WEBHOOK_TIMEOUT_MS", "30000");
    let mut world = World::start(settings).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Hang);
    let tenant = world.tenant("acme").await;
    tenant
        .endpoint_with(json!({"url": receiver.url("/")}))
        .await;
    // The first half is the first worker's for sure; the second half may be anybody's.
    publish_many(&tenant, MESSAGES / 2).await;
    receiver.wait_in_flight(MESSAGES / 2, SOON).await;
    world.start_worker().await;
    publish_many(&tenant, MESSAGES / 2).await;
    receiver.wait_in_flight(MESSAGES, SOON).await;

    world.workers.remove(0).kill9();
    receiver.wait_in_flight_at_most(MESSAGES / 2, SOON).await;
    receiver.release();
    tenant.wait_until_nothing_is_pending(LATER).await;
    assert_eq!(receiver.distinct(), MESSAGES);
    let duplicates = receiver.count() - receiver.distinct();
    println!("killed worker: {duplicates} of {MESSAGES} in flight were sent again");
    assert!(
        (MESSAGES / 2..=MESSAGES).contains(&duplicates),
        "{duplicates} duplicates"
    );
    world.assert_all_running();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_and_a_lost_redis_lose_nothing() {
    const BACKLOG: usize = 5_000;
    let Some(_turn) = turn("lost Redis").await else {
        return;
    };
    let mut world = World::start(options().workers(0)).await;
    let receiver = Receiver::start().await;
    receiver.record(false);
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    publish_many(&tenant, BACKLOG).await;
    let publisher = Publisher::start(&tenant);
    world.start_worker().await;
    world.start_worker().await;

    receiver.wait_for_distinct(BACKLOG / 10, LATER).await;
    assert_eq!(world.redis().command(&["FLUSHALL"]).await, "OK");
    receiver.wait_for_distinct(BACKLOG / 4, LATER).await;
    world.redis().kill9().await;
    publisher.wait_for_more(20).await;
    world.redis().restart_empty().await;
    publisher.wait_for_more(20).await;

    let published = BACKLOG + publisher.stop().await;
    receiver.wait_for_distinct(published, LATER).await;
    tenant.wait_until_nothing_is_pending(LATER).await;
    assert_eq!(receiver.distinct(), published);
    println!(
        "lost Redis: {published} published, {} sent twice",
        receiver.count() - published
    );
    world.assert_all_running();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_never_queued_is_delivered() {
    let Some(_turn) = turn("never queued").await else {
        return;
    };
    let mut world = World::start(options().workers(1)).await;
    let receiver = Receiver::start().await;
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    // With Redis gone and then the API gone as well, the database alone knows of the message.
    world.redis().kill9().await;
    tenant.publish("order.created", json!({"n": 1})).await;
    world.apis.remove(0).kill9();
    assert_eq!(receiver.count(), 0, "the worker needed no queue");
    world.redis().restart_empty().await;
    receiver.wait_for(1, LATER).await;
    world.assert_all_running();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_finishes_what_it_has_begun() {
    const MESSAGES: usize = 100;
    let Some(_turn) = turn("told to stop").await else {
        return;
    };
    let mut world = World::start(options().workers(1).env("WEBHOOK_CONCURRENCY", "50")).await;
    let receiver = Receiver::start().await;
    receiver.respond(Reply::Hang);
    let tenant = world.tenant("acme").await;
    tenant.endpoint(&receiver.url("/"), &[]).await;
    publish_many(&tenant, MESSAGES).await;
    receiver.wait_in_flight(MESSAGES / 2, SOON).await;

    let stopping = world.workers.remove(0);
    stopping.sigterm();
    world.start_worker().await;
    // The new worker takes the other half: the old one takes nothing any more.
    receiver.wait_in_flight(MESSAGES, SOON).await;
    // Long enough that the new worker would take the old one for dead if it went silent while it finishes.
    let redis = world.redis();
    let now = redis.command(&["TIME"]).await;
    let now: u64 = now.split_whitespace().next().unwrap().parse().unwrap();
    let later = (now + 8).to_string();
    let both_alive = [
        "ZCOUNT",
        "relaypost:webhooks:workers",
        later.as_str(),
        "+inf",
    ];
    eventually(SOON, || async {
        match redis.command(&both_alive).await.as_str() {
            "2" => Ok(()),
            alive => Err(format!("{alive} of 2 workers have said that they live")),
        }
    })
    .await;
    receiver.release();
    assert_eq!(stopping.wait_exit(SOON).await, 0, "{}", stopping.describe());
    tenant.wait_until_nothing_is_pending(LATER).await;
    assert_eq!(
        (receiver.distinct(), receiver.count()),
        (MESSAGES, MESSAGES)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_as_soon_as_it_listens_exits_with_0() {
    let Some(_turn) = turn("told to stop early").await else {
        return;
    };
    let world = World::start(options().workers(0)).await;
    for binary in ["relaypost-api", "relaypost-worker"] {
        // The moment is short: several tries find it.
        for _ in 0..5 {
            let process = world.try_serve(binary).await.unwrap();
            process.sigterm();
            assert_eq!(process.wait_exit(SOON).await, 0, "{}", process.describe());
        }
    }
    world.stop().await;
}

/// Publishes this many messages with 50 clients at once; every one has to be accepted.
async fn publish_many(tenant: &Tenant, messages: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let (tenant, next) = (tenant.clone(), next.clone());
        clients.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= messages {
                    break;
                }
                tenant.publish("order.created", json!({"n": n})).await;
            }
        });
    }
    clients.join_all().await;
}

/// Publishes one message after another until it is stopped; every one has to be accepted.
struct Publisher {
    stopping: Arc<AtomicBool>,
    published: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Publisher {
    fn start(tenant: &Tenant) -> Publisher {
        let stopping = Arc::new(AtomicBool::new(false));
        let (count, published) = watch::channel(0);
        let (tenant, stop) = (tenant.clone(), stopping.clone());
        let task = tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                tenant.publish("order.created", json!({"late": true})).await;
                count.send_modify(|count| *count += 1);
            }
        });
        Publisher {
            stopping,
            published,
            task,
        }
    }

    async fn wait_for_more(&self, messages: usize) {
        let mut published = self.published.clone();
        let wanted = *published.borrow() + messages;
        let reached = timeout(LATER, published.wait_for(|count| *count >= wanted)).await;
        reached
            .expect("the API goes on accepting")
            .expect("every message is accepted");
    }

    async fn stop(self) -> usize {
        self.stopping.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        *self.published.borrow()
    }
}
