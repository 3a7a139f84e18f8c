//! What a worker holds of a lane.

use std::collections::HashMap;

use crate::{
    ids::DeliveryId,
    queue::{
        Limits,
        flow::{Owner, Taken},
    },
};

#[derive(Debug, Default)]
pub(super) struct Held {
    /// Being worked on.
    working: HashMap<DeliveryId, Taken>,
    /// Finished, and the queue has not heard of it yet. Without an owner it never was of this queue.
    finished: HashMap<DeliveryId, Option<Owner>>,
}

/// What has to be done about the limits of jobs.
#[derive(Debug, Default)]
pub(super) struct Relimited {
    /// What the queue has to be told.
    pub(super) flows: HashMap<Owner, Limits>,
    /// Jobs that were taken under wider limits than they should have been.
    pub(super) too_early: Vec<DeliveryId>,
}

impl Held {
    /// Notes what was taken, and returns it without what is held already: after a loss the same delivery can be queued
    /// anew.
    pub(super) fn take(&mut self, taken: Vec<Taken>) -> Vec<DeliveryId> {
        let fresh = taken.into_iter().filter(|job| {
            let new = !self.working.contains_key(&job.delivery);
            // The queue gives it out anew: what it may not have heard of yet is not about this job.
            self.finished.remove(&job.delivery);
            self.working.entry(job.delivery).or_insert(*job);
            new
        });
        fresh.map(|job| job.delivery).collect()
    }

    /// Moves jobs to the finished, and returns how many were being worked on.
    pub(super) fn finish(&mut self, deliveries: &[DeliveryId]) -> usize {
        let mut count = 0;
        for delivery in deliveries {
            let job = self.working.remove(delivery);
            count += usize::from(job.is_some());
            let owner = job.map(|job| job.owner);
            self.finished.entry(*delivery).or_insert(owner);
        }
        count
    }

    /// Forgets jobs, and returns how many were being worked on.
    pub(super) fn release(&mut self, deliveries: &[DeliveryId]) -> usize {
        let held = deliveries
            .iter()
            .filter(|delivery| self.working.remove(delivery).is_some());
        held.count()
    }

    /// The finished that the queue has to hear of.
    pub(super) fn finished(&self) -> Vec<DeliveryId> {
        self.finished.keys().copied().collect()
    }

    /// The queue has heard of these.
    pub(super) fn settled(&mut self, finished: &[DeliveryId]) {
        for delivery in finished {
            self.finished.remove(delivery);
        }
    }

    /// What the queue has to know of after a loss.
    pub(super) fn all(&self) -> Vec<(DeliveryId, Owner)> {
        let working = self.working.iter().map(|(id, job)| (*id, job.owner));
        let finished = self.finished.iter();
        working
            .chain(finished.filter_map(|(id, owner)| Some((*id, (*owner)?))))
            .collect()
    }

    /// Whether it is being worked on, or finished.
    pub(super) fn contains(&self, delivery: &DeliveryId) -> bool {
        self.working.contains_key(delivery) || self.finished.contains_key(delivery)
    }

    /// How many are being worked on.
    pub(super) fn len(&self) -> usize {
        self.working.len()
    }

    /// Compares the limits that jobs should have with those under which they were taken.
    pub(super) fn relimit(
        &self,
        wanted: &[(DeliveryId, Limits)],
        default_cap: Option<u32>,
    ) -> Relimited {
        let mut relimited = Relimited::default();
        for (delivery, limits) in wanted {
            let limits = limits.at_least_one();
            let Some(job) = self.working.get(delivery) else {
                continue;
            };
            if job.limits == limits {
                continue;
            }
            relimited.flows.insert(job.owner, limits);
            if limits.tighter_than(job.limits, job.owner.default_cap(default_cap)) {
                relimited.too_early.push(*delivery);
            }
        }
        relimited
    }
}
