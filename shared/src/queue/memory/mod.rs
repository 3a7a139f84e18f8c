//! The queue of the embedded mode. It holds ids and nothing else, so that losing it with the process costs nothing:
//! the sweep of the next start finds every delivery that still waits.
//!
//! It does what the scripts in Redis do, step by step, and the same tests run on both.

mod lane;
mod rate;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::{
    FLOWS_LOOKED_AT, Flow, Job, LIMITS_LAST, Lane, Limits, Startable,
    flow::{Fetched, Owner},
};
use crate::{
    clock::{Clock, Timestamp},
    ids::DeliveryId,
};
use lane::LaneState;
use rate::Rate;

/// With limits for more flows than this, those that were not used lately go.
const LIMITED_FLOWS: usize = 10_000;

/// Queues in this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
    /// What rates go by instead of the machine's time: a clock, and the moments at which both began.
    simulated: Option<(Clock, Timestamp, Instant)>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    bells: [Notify; 3],
    consumers: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    lanes: [LaneState; 3],
    flows: Flows,
}

/// What is known of flows over all lanes.
#[derive(Debug, Default)]
struct Flows {
    /// How many jobs of each are taken and not acknowledged.
    in_flight: HashMap<Flow, u32>,
    /// In which lanes a flow waits for a place.
    blocked: HashMap<Flow, Vec<Lane>>,
    limited: HashMap<Flow, Limited>,
}

#[derive(Debug)]
struct Limited {
    limits: Limits,
    rate: Rate,
    used: Instant,
}

/// Which of the queue's consumers has a job.
pub(super) type Holder = u64;

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Webhooks => 0,
        Lane::Emails => 1,
        Lane::Bulk => 2,
    }
}

impl MemoryQueue {
    /// A queue whose rates go by this clock, so that hours can be simulated.
    pub fn simulated(clock: Clock) -> Self {
        let start = (clock.now(), Instant::now());
        Self {
            shared: Arc::default(),
            simulated: Some((clock, start.0, start.1)),
        }
    }

    fn now(&self) -> Instant {
        match &self.simulated {
            None => Instant::now(),
            Some((clock, since, start)) => {
                *start + (clock.now() - *since).to_std().unwrap_or_default()
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, lane: Lane) {
        self.shared.bells[index(lane)].notify_one();
    }

    /// A consumer's name in this queue.
    pub(super) fn holder(&self) -> Holder {
        self.shared.consumers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn push(&self, lane: Lane, jobs: &[Job]) {
        let mut state = self.state();
        for job in jobs {
            if let Some(limits) = job.limits {
                state.flows.know(job.flow(), limits, self.now());
            }
            state.lanes[index(lane)].push(job.delivery, job.owner());
        }
        self.ring(lane);
    }

    pub(super) fn missing(&self, lane: Lane, jobs: &[Job]) -> Vec<Job> {
        let state = self.state();
        let known = &state.lanes[index(lane)];
        jobs.iter()
            .filter(|job| !known.knows(job.delivery))
            .copied()
            .collect()
    }

    pub(super) fn depth(&self, lane: Lane) -> u64 {
        self.state().lanes[index(lane)].depth() as u64
    }

    pub(super) fn waiting(&self, lane: Lane, flow: Flow) -> u64 {
        self.state().lanes[index(lane)].waiting(flow) as u64
    }

    pub(super) fn startable(&self, lane: Lane, default_cap: Option<u32>) -> Startable {
        let state = self.state();
        let (here, now) = (&state.lanes[index(lane)], self.now());
        let mut found = Startable {
            depth: here.depth() as u64,
            ..Startable::default()
        };
        for (owner, waiting, head) in here.ready(now, FLOWS_LOOKED_AT) {
            let count = state.flows.turn(owner, waiting, default_cap, now).count;
            if count > 0 {
                found.startable += count as u64;
                found.heads.push(head);
            }
        }
        found
    }

    /// Up to `max` jobs, without waiting. `default_cap` is for endpoints that have none of their own.
    pub(super) fn take(
        &self,
        lane: Lane,
        holder: Holder,
        max: usize,
        default_cap: Option<u32>,
    ) -> Fetched {
        let mut state = self.state();
        let State { lanes, flows } = &mut *state;
        let here = &mut lanes[index(lane)];
        let now = self.now();
        here.promote(now);
        let mut fetched = Fetched::default();
        while fetched.jobs.len() < max
            && let Some((owner, count)) = here.next(max - fetched.jobs.len())
        {
            let turn = flows.turn(owner, count, default_cap, now);
            let before = fetched.jobs.len();
            here.take(owner, turn.count, holder, turn.limits, &mut fetched.jobs);
            let taken = fetched.jobs.len() - before;
            let stop = flows.took(owner.flow, taken, &turn, now);
            here.place(owner, stop, &mut flows.blocked, lane);
        }
        if fetched.jobs.is_empty() {
            fetched.wait = here.next_due().map(|due| due.duration_since(now));
        }
        if here.is_ready() || (fetched.jobs.len() == max && here.next_due().is_some()) {
            self.ring(lane);
        }
        fetched
    }

    /// Returns when the bell rings.
    pub(super) async fn pushed(&self, lane: Lane) {
        self.shared.bells[index(lane)].notified().await;
    }

    pub(super) fn acknowledge(&self, lane: Lane, holder: Holder, deliveries: &[DeliveryId]) {
        let mut state = self.state();
        for delivery in deliveries {
            if let Some(owner) = state.lanes[index(lane)].remove(*delivery, holder) {
                self.release(&mut state, owner);
            }
        }
        if state.lanes[index(lane)].is_ready() {
            self.ring(lane);
        }
    }

    pub(super) fn hand_back(&self, lane: Lane, holder: Holder, deliveries: &[DeliveryId]) {
        let mut state = self.state();
        let mut deliveries = deliveries.to_vec();
        deliveries.sort_unstable();
        for delivery in deliveries.into_iter().rev() {
            if let Some(owner) = state.lanes[index(lane)].give_back(delivery, holder) {
                self.release(&mut state, owner);
            }
        }
        self.ring(lane);
    }

    pub(super) fn limit(&self, flows: impl IntoIterator<Item = (Owner, Limits)>) {
        let mut state = self.state();
        for (owner, limits) in flows {
            state.flows.limit(owner.flow, limits, self.now());
            self.unblock(&mut state, owner);
            for lane in Lane::ALL {
                if state.lanes[index(lane)].undelay(owner) {
                    self.ring(lane);
                }
            }
        }
    }

    /// One job less in flight.
    fn release(&self, state: &mut State, owner: Owner) {
        if let Some(count) = state.flows.in_flight.get_mut(&owner.flow) {
            *count -= 1;
            if *count == 0 {
                state.flows.in_flight.remove(&owner.flow);
            }
        }
        self.unblock(state, owner);
    }

    fn unblock(&self, state: &mut State, owner: Owner) {
        for lane in state.flows.blocked.remove(&owner.flow).unwrap_or_default() {
            state.lanes[index(lane)].admit(owner);
            self.ring(lane);
        }
    }
}

/// What a flow may take in this turn.
struct Turn {
    count: usize,
    /// How many places were free.
    free: usize,
    limits: Limits,
}

/// Where a flow has to wait after its turn.
enum Stop {
    No,
    /// For a place.
    Blocked,
    /// For its rate.
    Until(Instant),
}

impl Flows {
    fn turn(&self, owner: Owner, count: usize, default_cap: Option<u32>, now: Instant) -> Turn {
        let limited = self.limited.get(&owner.flow);
        let limits = limited.map(|limited| limited.limits).unwrap_or_default();
        let in_flight = self.in_flight.get(&owner.flow).map_or(0, |n| *n as usize);
        let cap = limits.max_in_flight.or(owner.default_cap(default_cap));
        let free = cap.map_or(usize::MAX, |cap| (cap as usize).saturating_sub(in_flight));
        let allowed = match (limited, limits.rate_per_s) {
            (Some(limited), Some(rate)) => limited.rate.allowed(rate, now),
            _ => usize::MAX,
        };
        Turn {
            count: count.min(free).min(allowed),
            free,
            limits,
        }
    }

    /// Counts what a flow took in its turn, and says whether it may have another.
    fn took(&mut self, flow: Flow, taken: usize, turn: &Turn, now: Instant) -> Stop {
        if taken > 0 {
            *self.in_flight.entry(flow).or_insert(0) += u32::try_from(taken).unwrap_or(u32::MAX);
        }
        let mut stop = Stop::No;
        if let Some(limited) = self.limited.get_mut(&flow) {
            limited.used = now;
            if let Some(rate) = turn.limits.rate_per_s {
                limited.rate.took(rate, taken, now);
                if limited.rate.allowed(rate, now) == 0 {
                    stop = Stop::Until(limited.rate.due(rate, now));
                }
            }
        }
        if turn.free <= taken {
            stop = Stop::Blocked;
        }
        stop
    }

    /// Limits that came with a job. What is known already may be newer.
    fn know(&mut self, flow: Flow, limits: Limits, now: Instant) {
        if !self.limited.contains_key(&flow) {
            self.limit(flow, limits, now);
        }
    }

    fn limit(&mut self, flow: Flow, limits: Limits, now: Instant) {
        if limits == Limits::default() {
            self.limited.remove(&flow);
            return;
        }
        if self.limited.len() >= LIMITED_FLOWS {
            self.limited
                .retain(|_, limited| now.duration_since(limited.used) < LIMITS_LAST);
        }
        let limited = self.limited.entry(flow).or_insert_with(|| Limited {
            limits,
            rate: Rate::default(),
            used: now,
        });
        (limited.limits, limited.used) = (limits, now);
    }
}
