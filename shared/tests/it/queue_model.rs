//! Random histories of the queue, in both forms, beside a model that knows who holds what: no cap is ever exceeded, what
//! may be given out is given out, and in the end nothing is left, no count either.

use std::collections::{HashMap, HashSet};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use relaypost_shared::{
    ids::{DeliveryId, EndpointId},
    queue::{Consumer, Flow, Job, Lane, Limits},
};
use relaypost_testkit::eventually;

use crate::support::{Alive, DEADLINE, Form, more, on_both, tenant, webhooks};

const LANES: [Lane; 2] = [Lane::Webhooks, Lane::Bulk];
const DEFAULT: u32 = 4;
const STEPS: usize = 300;

struct Worker {
    consumer: Consumer,
    name: String,
    held: HashSet<DeliveryId>,
    alive: Alive,
}

struct Model {
    form: Form,
    rng: StdRng,
    /// One job of each flow, for its tenant and endpoint, and the flow's cap.
    flows: Vec<(Job, u32)>,
    jobs: HashMap<DeliveryId, Job>,
    waiting: HashMap<Lane, HashSet<DeliveryId>>,
    workers: Vec<Worker>,
    started: usize,
}

impl Model {
    async fn new(form: Form, seed: u64) -> Model {
        let (one, two) = (tenant(), tenant());
        let mut flows = Vec::new();
        for (tenant, cap) in [(one, 1), (one, 2), (one, DEFAULT), (two, 7), (two, DEFAULT)] {
            let job = webhooks(tenant, 1)[0];
            if cap != DEFAULT {
                let limits = Limits {
                    max_in_flight: Some(cap),
                    rate_per_s: None,
                };
                form.limit(job, limits).await;
            }
            flows.push((job, cap));
        }
        let mut model = Model {
            form,
            rng: StdRng::seed_from_u64(seed),
            flows,
            jobs: HashMap::new(),
            waiting: LANES.map(|lane| (lane, HashSet::new())).into(),
            workers: Vec::new(),
            started: 0,
        };
        for lane in [LANES, LANES].concat() {
            model.start(lane).await;
        }
        model
    }

    async fn start(&mut self, lane: Lane) {
        self.started += 1;
        let name = format!("worker_{}", self.started);
        let consumer = self.form.consumer(lane, &name, Some(DEFAULT)).await;
        self.workers.push(Worker {
            alive: Alive::keep(&consumer),
            consumer,
            name,
            held: HashSet::new(),
        });
    }

    fn in_flight(&self, endpoint: Option<EndpointId>) -> u32 {
        let held = self.workers.iter().flat_map(|worker| &worker.held);
        let count = held
            .filter(|id| self.jobs[*id].endpoint == endpoint)
            .count();
        u32::try_from(count).unwrap()
    }

    /// Whether a fetch in this lane has to bring something.
    fn may_fetch(&self, lane: Lane) -> bool {
        self.flows.iter().any(|(flow, cap)| {
            let mut waiting = self.waiting[&lane].iter();
            self.in_flight(flow.endpoint) < *cap
                && waiting.any(|id| self.jobs[id].endpoint == flow.endpoint)
        })
    }

    async fn step(&mut self) {
        let worker = self.rng.random_range(0..self.workers.len());
        match self.rng.random_range(0..1_000) {
            0..250 => self.push().await,
            250..600 => self.fetch(worker).await,
            600..850 => self.finish(worker, true).await,
            850..990 => self.finish(worker, false).await,
            _ => self.kill(worker).await,
        }
        for (flow, cap) in &self.flows {
            let in_flight = self.in_flight(flow.endpoint);
            assert!(in_flight <= *cap, "{in_flight} of {cap} in flight");
        }
    }

    async fn push(&mut self) {
        let lane = *LANES.choose(&mut self.rng).unwrap();
        let mut jobs = Vec::new();
        for _ in 0..self.rng.random_range(1..4) {
            let (flow, _) = *self.flows.choose(&mut self.rng).unwrap();
            let count = self.rng.random_range(1..6);
            jobs.extend(more(flow.tenant, flow.endpoint.unwrap(), count));
        }
        self.form.queue.push(lane, &jobs).await.unwrap();
        for job in jobs {
            self.jobs.insert(job.delivery, job);
            self.waiting.get_mut(&lane).unwrap().insert(job.delivery);
        }
    }

    async fn fetch(&mut self, worker: usize) {
        let lane = self.workers[worker].consumer.lane();
        if !self.may_fetch(lane) {
            return;
        }
        let taken = self.workers[worker].consumer.fetch().await;
        assert!(!taken.is_empty(), "a job may go and does not");
        for delivery in taken {
            assert!(self.waiting.get_mut(&lane).unwrap().remove(&delivery));
            self.workers[worker].held.insert(delivery);
        }
    }

    async fn finish(&mut self, worker: usize, done: bool) {
        let Worker { consumer, held, .. } = &mut self.workers[worker];
        let some: Vec<DeliveryId> = held.iter().copied().filter(|_| self.rng.random()).collect();
        held.retain(|delivery| !some.contains(delivery));
        if done {
            consumer.acknowledge(&some).await;
        } else {
            consumer.hand_back(&some).await;
            self.waiting.get_mut(&consumer.lane()).unwrap().extend(some);
        }
    }

    /// A worker dies, another starts, and the rest take over what the dead one held.
    async fn kill(&mut self, worker: usize) {
        let dead = self.workers.swap_remove(worker);
        let lane = dead.consumer.lane();
        drop(dead.alive);
        self.start(lane).await;
        self.form.die(&dead.consumer, &dead.name).await;
        let waiting = self.waiting.get_mut(&lane).unwrap();
        waiting.extend(dead.held);
        let (queue, wanted) = (&self.form.queue, waiting.len() as u64);
        eventually(DEADLINE, || async {
            match queue.depth(lane).await.unwrap() {
                depth if depth == wanted => Ok(()),
                depth => Err(format!("{depth} wait instead of {wanted}")),
            }
        })
        .await;
    }

    async fn check_counts(&self) {
        for lane in LANES {
            let waiting = &self.waiting[&lane];
            assert_eq!(
                self.form.queue.depth(lane).await.unwrap(),
                waiting.len() as u64
            );
            for (flow, _) in &self.flows {
                let endpoint = flow.endpoint.unwrap();
                let mine = waiting
                    .iter()
                    .filter(|id| self.jobs[*id].endpoint == Some(endpoint));
                let counted = self.form.queue.waiting(lane, Flow::Endpoint(endpoint));
                assert_eq!(counted.await.unwrap(), mine.count() as u64);
            }
        }
    }

    async fn drain(&mut self) {
        loop {
            for worker in 0..self.workers.len() {
                self.fetch(worker).await;
                let Worker { consumer, held, .. } = &mut self.workers[worker];
                let held: Vec<DeliveryId> = held.drain().collect();
                consumer.acknowledge(&held).await;
            }
            if self.waiting.values().all(HashSet::is_empty) {
                return;
            }
        }
    }

    /// With nothing in flight every flow has all its places.
    async fn check_places(&mut self) {
        for (flow, cap) in self.flows.clone() {
            let jobs = more(flow.tenant, flow.endpoint.unwrap(), cap as usize + 1);
            self.form.queue.push(LANES[0], &jobs).await.unwrap();
            let consumer = self.workers.iter().map(|worker| &worker.consumer);
            let consumer = consumer.clone().find(|one| one.lane() == LANES[0]).unwrap();
            let taken = consumer.fetch().await;
            assert_eq!(taken.len(), cap as usize);
            consumer.acknowledge(&taken).await;
            let last = consumer.fetch().await;
            assert_eq!(last.len(), 1);
            consumer.acknowledge(&last).await;
        }
    }
}

#[tokio::test]
async fn no_history_exceeds_a_cap_or_leaves_anything_behind() {
    for seed in 0..4 {
        on_both(|form| async move {
            let mut model = Model::new(form, seed).await;
            for _ in 0..STEPS {
                model.step().await;
            }
            model.check_counts().await;
            model.drain().await;
            assert_eq!(model.form.work_keys().await, Vec::<String>::new());
            model.check_places().await;
            assert_eq!(model.form.work_keys().await, Vec::<String>::new());
        })
        .await;
    }
}
