//! What ends in a worker starts again: a job, a background loop, a lane. The seam is the clock that everything is handed: it
//! panics when a test wants it to.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::FutureExt as _;
use relaypost_shared::{
    clock::Clock,
    delivery::{Ordering, Status},
    health::{Check, Health},
    ids::{DeliveryId, EndpointId},
    queue::{Job, Lane, MemoryQueue, Queue},
};
use relaypost_testkit::{Receiver, Reply, eventually};
use relaypost_worker::run;
use sea_orm::ActiveValue::Set;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::fixture::Bench;

const SOON: Duration = Duration::from_secs(60);

/// The machine's time, as long as nothing is to panic.
#[derive(Clone, Default)]
struct Faults(Arc<AtomicBool>);

impl Faults {
    fn clock(&self) -> Clock {
        let on = self.0.clone();
        Clock::asking(move || {
            assert!(!on.load(SeqCst), "injected");
            Clock::system().now()
        })
    }

    fn begin(&self) {
        self.0.store(true, SeqCst);
    }

    fn end(&self) {
        self.0.store(false, SeqCst);
    }
}

/// A worker with all its loops, in this process.
struct Running {
    bench: Bench,
    health: Health,
    endpoint: EndpointId,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Running {
    /// `clock` is for everything but the queue, which has `of_queue`.
    async fn start(clock: Clock, of_queue: Clock, receiver: &Receiver) -> Self {
        let mut bench = Bench::new(&[]).await;
        bench.clock = Clock::system();
        bench.queue = Queue::Memory(MemoryQueue::simulated(of_queue));
        let endpoint = bench.endpoint(&receiver.url("/"), None).await;
        let mut services = bench.services();
        services.clock = clock;
        let (health, (stop, stopped)) = (services.health.clone(), oneshot::channel());
        let ended = tokio::spawn(async move {
            let told = async move { stopped.await.unwrap() };
            run(services, told).await.unwrap();
        });
        Self {
            bench,
            health,
            endpoint,
            stop,
            ended,
        }
    }

    async fn publish(&self, count: usize) -> Vec<DeliveryId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.bench.webhook(self.endpoint).await);
        }
        let jobs: Vec<Job> = ids.iter().map(|id| self.job(*id)).collect();
        self.bench.queue.push(Lane::Webhooks, &jobs).await.unwrap();
        ids
    }

    fn job(&self, delivery: DeliveryId) -> Job {
        Job {
            delivery,
            tenant: self.bench.tenant,
            endpoint: Some(self.endpoint),
            limits: None,
        }
    }

    async fn until_delivered(&self, ids: &[DeliveryId]) {
        for id in ids {
            eventually(SOON, || async {
                match self.bench.delivery(*id).await.status {
                    Status::Delivered => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
    }

    /// Waits until so many panics were caught in a loop, or in what it gave out.
    async fn until_panicked(&self, name: &str, at_least: u64) {
        eventually(SOON, || async {
            let states = self.health.loops().states();
            let state = states.into_iter().find(|state| state.name == name);
            let panics = state.map_or(0, |state| state.panics);
            match panics >= at_least {
                true => Ok(()),
                false => Err(format!("{panics} panics in {name}")),
            }
        })
        .await;
    }

    async fn until_check(&self, name: &str, fits: impl Fn(&Check) -> bool) {
        eventually(SOON, || async {
            let readiness = self.health.readiness().await;
            match readiness.checks.get(name).is_some_and(&fits) {
                true => Ok(()),
                false => Err(readiness.body().to_string()),
            }
        })
        .await;
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap();
        self.bench.close().await;
    }
}

fn ended(check: &Check, begins: &str) -> bool {
    match check {
        Check::Ok => false,
        Check::Degraded(why) | Check::Failed(why) => {
            why.starts_with(begins) && why.ends_with("it ended and starts again")
        }
    }
}

#[tokio::test]
async fn panics_in_jobs_and_in_background_steps_end_neither_the_process_nor_its_delivering() {
    let (receiver, faults) = (Receiver::start().await, Faults::default());
    let running = Running::start(faults.clock(), Clock::system(), &receiver).await;
    let first = running.publish(1).await;
    running.until_delivered(&first).await;
    faults.begin();
    let lost = running.publish(20).await;
    running.until_panicked("fetch webhooks", 1).await;
    running.until_panicked("dispatch", 2).await;
    running
        .until_check("background", |check| {
            matches!(check, Check::Degraded(_)) && ended(check, "")
        })
        .await;
    assert_eq!(receiver.count(), 1);
    faults.end();
    running.until_delivered(&lost).await;
    running
        .until_check("background", |check| *check == Check::Ok)
        .await;
    running
        .until_check("lanes", |check| *check == Check::Ok)
        .await;
    assert_eq!((receiver.count(), receiver.distinct()), (21, 21));
    running.stop().await;
}

#[tokio::test]
async fn a_lane_that_panics_is_not_ready_starts_again_and_sends_what_was_in_flight_once() {
    let (receiver, faults) = (Receiver::start().await, Faults::default());
    let running = Running::start(Clock::system(), faults.clock(), &receiver).await;
    running
        .until_check("lanes", |check| *check == Check::Ok)
        .await;
    receiver.respond(Reply::Hang);
    let in_flight = running.publish(3).await;
    receiver.wait_in_flight(3, SOON).await;
    faults.begin();
    running
        .until_check("lanes", |check| {
            matches!(check, Check::Failed(_)) && ended(check, "fetch webhooks")
        })
        .await;
    assert!(!running.health.readiness().await.is_ready());
    let queued = running.publish(3).await;
    receiver.respond(Reply::Status(200));
    receiver.release();
    running.until_delivered(&in_flight).await;
    assert_eq!(receiver.count(), 3, "what waits is not taken meanwhile");
    faults.end();
    running.until_delivered(&queued).await;
    running
        .until_check("lanes", |check| *check == Check::Ok)
        .await;
    assert_eq!((receiver.count(), receiver.distinct()), (6, 6));
    let states = running.health.loops().states();
    let lane = states.iter().find(|state| state.name == "fetch webhooks");
    assert!(
        lane.is_some_and(|lane| lane.restarts > 0 && lane.panics == lane.restarts),
        "{lane:?}"
    );
    running.stop().await;
}

/// Panics at one of its readings.
fn fatal_at(reading: usize, clock: Clock) -> (Clock, Arc<AtomicUsize>) {
    let readings = Arc::new(AtomicUsize::new(0));
    let count = readings.clone();
    let asked = Clock::asking(move || {
        assert_ne!(count.fetch_add(1, SeqCst) + 1, reading, "injected");
        clock.now()
    });
    (asked, readings)
}

#[tokio::test]
async fn a_job_that_panics_anywhere_records_what_it_has_begun_and_holds_nothing() {
    let mut went_on = 0;
    for reading in 1.. {
        let receiver = Receiver::start().await;
        let mut bench = Bench::new(&[]).await;
        let endpoint = bench.endpoint(&receiver.url("/"), None).await;
        let ordered = bench.endpoint(&receiver.url("/"), None).await;
        bench
            .change(ordered, |row| row.ordering = Set(Some(Ordering::Fifo)))
            .await;
        let (one, other) = (bench.webhook(endpoint).await, bench.webhook(ordered).await);
        let job = |delivery, endpoint| Job {
            delivery,
            tenant: bench.tenant,
            endpoint: Some(endpoint),
            limits: None,
        };
        let jobs = [job(one, endpoint), job(other, ordered)];
        let healthy = bench.clock.clone();
        let (clock, readings) = fatal_at(reading, healthy.clone());
        bench.clock = clock;
        let lane = bench.lane(Lane::Webhooks);
        bench.clock = healthy;
        bench.queue.push(Lane::Webhooks, &jobs).await.unwrap();
        let worked = AssertUnwindSafe(lane.work_queue()).catch_unwind().await;
        assert_eq!(lane.in_flight(), 0, "reading {reading}");
        let delivered = [
            bench.delivery(one).await.status == Status::Delivered,
            bench.delivery(other).await.status == Status::Delivered,
        ];
        went_on += usize::from(worked.is_err() && delivered == [true, false]);
        // As the sweep does.
        bench.queue.push(Lane::Webhooks, &jobs).await.unwrap();
        bench.lane(Lane::Webhooks).work_queue().await;
        for id in [one, other] {
            let status = bench.delivery(id).await.status;
            assert_eq!(status, Status::Delivered, "reading {reading}");
        }
        assert!(receiver.count() <= 3, "at most one was sent twice");
        bench.close().await;
        if readings.load(SeqCst) < reading {
            break;
        }
    }
    assert!(went_on > 0, "what is begun ends although the rest panics");
}
