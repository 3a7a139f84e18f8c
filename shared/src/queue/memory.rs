//! The queue of the embedded mode. It holds ids and nothing else, so that losing it with the process costs nothing:
//! the sweep of the next start finds every delivery that still waits.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{Job, Lane};
use crate::ids::DeliveryId;

/// Queues in this process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryQueue {
    webhooks: Arc<LaneQueue>,
    emails: Arc<LaneQueue>,
    bulk: Arc<LaneQueue>,
}

#[derive(Debug, Default)]
struct LaneQueue {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<DeliveryId>,
    /// Everything that has a job: waiting, or taken and not acknowledged.
    known: HashSet<DeliveryId>,
}

impl LaneQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryQueue {
    const fn lane(&self, lane: Lane) -> &Arc<LaneQueue> {
        match lane {
            Lane::Webhooks => &self.webhooks,
            Lane::Emails => &self.emails,
            Lane::Bulk => &self.bulk,
        }
    }

    pub(super) fn push(&self, lane: Lane, jobs: &[Job]) {
        let queue = self.lane(lane);
        let mut state = queue.state();
        for job in jobs {
            if state.known.insert(job.delivery) {
                state.waiting.push_back(job.delivery);
            }
        }
        queue.pushed.notify_one();
    }

    pub(super) fn missing(&self, lane: Lane, jobs: &[Job]) -> Vec<Job> {
        let state = self.lane(lane).state();
        jobs.iter()
            .filter(|job| !state.known.contains(&job.delivery))
            .copied()
            .collect()
    }

    pub(super) fn depth(&self, lane: Lane) -> u64 {
        self.lane(lane).state().waiting.len() as u64
    }

    /// Up to `max` jobs, without waiting.
    pub(super) fn take(&self, lane: Lane, max: usize) -> Vec<DeliveryId> {
        let mut state = self.lane(lane).state();
        let count = max.min(state.waiting.len());
        state.waiting.drain(..count).collect()
    }

    /// Returns when something was pushed since the last call.
    pub(super) async fn pushed(&self, lane: Lane) {
        self.lane(lane).pushed.notified().await;
    }

    pub(super) fn acknowledge(&self, lane: Lane, deliveries: &[DeliveryId]) {
        let mut state = self.lane(lane).state();
        for delivery in deliveries {
            state.known.remove(delivery);
        }
    }

    pub(super) fn hand_back(&self, lane: Lane, deliveries: &[DeliveryId]) {
        let queue = self.lane(lane);
        queue.state().waiting.extend(deliveries);
        queue.pushed.notify_one();
    }
}
