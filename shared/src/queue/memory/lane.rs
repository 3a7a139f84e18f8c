//! One lane of the queue in memory: the jobs, and the rings in which their flows take turns.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tokio::time::Instant;

use super::{Holder, Stop};
use crate::{
    ids::{DeliveryId, TenantId},
    queue::{
        Flow, Lane, Limits, TURN,
        flow::{Owner, Taken},
    },
};

/// A flow that has jobs waiting stands in exactly one place: in its tenant's ring, with the blocked (see
/// [`super::Flows`]), or with the delayed.
#[derive(Debug, Default)]
pub(super) struct LaneState {
    jobs: HashMap<DeliveryId, Known>,
    waiting: HashMap<Flow, VecDeque<DeliveryId>>,
    tenants: VecDeque<TenantId>,
    flows: HashMap<TenantId, VecDeque<Flow>>,
    delayed: BTreeSet<(Instant, Owner)>,
    depth: usize,
}

#[derive(Debug)]
struct Known {
    owner: Owner,
    /// Nobody: it waits.
    holder: Option<Holder>,
    /// It was pushed while it was being worked on.
    again: bool,
}

impl LaneState {
    pub(super) fn push(&mut self, delivery: DeliveryId, owner: Owner) {
        if let Some(known) = self.jobs.get_mut(&delivery) {
            known.again = known.holder.is_some();
            return;
        }
        let known = Known {
            owner,
            holder: None,
            again: false,
        };
        self.jobs.insert(delivery, known);
        self.wait(owner).push_back(delivery);
    }

    /// The jobs of a flow, of which one more waits. If it is the first, the flow stood nowhere.
    fn wait(&mut self, owner: Owner) -> &mut VecDeque<DeliveryId> {
        self.depth += 1;
        if !self.waiting.contains_key(&owner.flow) {
            self.admit(owner);
        }
        self.waiting.entry(owner.flow).or_default()
    }

    /// Puts a flow that stands nowhere at the end of its tenant's ring.
    pub(super) fn admit(&mut self, owner: Owner) {
        let ring = self.flows.entry(owner.tenant).or_default();
        if ring.is_empty() {
            self.tenants.push_back(owner.tenant);
        }
        ring.push_back(owner.flow);
    }

    /// The flow whose turn it is, out of its ring, and how many jobs it may take of `left`.
    pub(super) fn next(&mut self, left: usize) -> Option<(Owner, usize)> {
        let tenant = self.tenants.pop_front()?;
        let ring = self.flows.get_mut(&tenant)?;
        let flow = ring.pop_front()?;
        let mut count = left.min(TURN);
        if !ring.is_empty() {
            self.tenants.push_back(tenant);
        } else {
            self.flows.remove(&tenant);
            if self.tenants.is_empty() {
                // Nobody else has anything: no need for turns.
                count = left;
            }
        }
        Some((Owner { tenant, flow }, count))
    }

    pub(super) fn take(
        &mut self,
        owner: Owner,
        count: usize,
        holder: Holder,
        limits: Limits,
        taken: &mut Vec<Taken>,
    ) {
        let Some(waiting) = self.waiting.get_mut(&owner.flow) else {
            return;
        };
        for delivery in waiting.drain(..count.min(waiting.len())) {
            if let Some(known) = self.jobs.get_mut(&delivery) {
                known.holder = Some(holder);
            }
            self.depth -= 1;
            taken.push(Taken {
                delivery,
                owner,
                limits,
            });
        }
        if waiting.is_empty() {
            self.waiting.remove(&owner.flow);
        }
    }

    /// Puts a flow after its turn where it belongs.
    pub(super) fn place(
        &mut self,
        owner: Owner,
        stop: Stop,
        blocked: &mut HashMap<Flow, Vec<Lane>>,
        lane: Lane,
    ) {
        if !self.waiting.contains_key(&owner.flow) {
            return;
        }
        match stop {
            Stop::No => self.admit(owner),
            Stop::Blocked => blocked.entry(owner.flow).or_default().push(lane),
            Stop::Until(due) => {
                self.delayed.insert((due, owner));
            }
        }
    }

    /// Lets the delayed flows whose time has come take turns again.
    pub(super) fn promote(&mut self, now: Instant) {
        while let Some((due, owner)) = self.delayed.first().copied()
            && due <= now
        {
            self.delayed.pop_first();
            self.admit(owner);
        }
    }

    /// Lets a flow take turns again if it is delayed, and says whether it was.
    pub(super) fn undelay(&mut self, owner: Owner) -> bool {
        let before = self.delayed.len();
        self.delayed.retain(|(_, delayed)| *delayed != owner);
        let found = self.delayed.len() < before;
        if found {
            self.admit(owner);
        }
        found
    }

    /// When the first of the delayed flows may go on.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Forgets a job that `holder` has, or puts it back if it was pushed meanwhile.
    pub(super) fn remove(&mut self, delivery: DeliveryId, holder: Holder) -> Option<Owner> {
        let known = self.held_by(delivery, holder)?;
        if known.again {
            return self.give_back(delivery, holder);
        }
        let owner = known.owner;
        self.jobs.remove(&delivery);
        Some(owner)
    }

    /// Puts a job that `holder` has in front of those of its flow.
    pub(super) fn give_back(&mut self, delivery: DeliveryId, holder: Holder) -> Option<Owner> {
        let known = self.held_by(delivery, holder)?;
        known.holder = None;
        known.again = false;
        let owner = known.owner;
        self.wait(owner).push_front(delivery);
        Some(owner)
    }

    fn held_by(&mut self, delivery: DeliveryId, holder: Holder) -> Option<&mut Known> {
        self.jobs
            .get_mut(&delivery)
            .filter(|known| known.holder == Some(holder))
    }

    pub(super) fn knows(&self, delivery: DeliveryId) -> bool {
        self.jobs.contains_key(&delivery)
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.tenants.is_empty()
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Up to `most` flows that may go on at `now`, with how many of their jobs wait and the first of these.
    pub(super) fn ready(
        &self,
        now: Instant,
        most: usize,
    ) -> impl Iterator<Item = (Owner, usize, DeliveryId)> {
        let delayed = self.delayed.iter().take_while(move |(due, _)| *due <= now);
        let delayed = delayed.map(|(_, owner)| *owner);
        let in_rings = self.tenants.iter().flat_map(|tenant| {
            let flows = self.flows.get(tenant).into_iter().flatten();
            flows.map(|flow| Owner {
                tenant: *tenant,
                flow: *flow,
            })
        });
        let ready = delayed.chain(in_rings).take(most);
        ready.filter_map(|owner| {
            let waiting = self.waiting.get(&owner.flow)?;
            Some((owner, waiting.len(), *waiting.front()?))
        })
    }

    pub(super) fn waiting(&self, flow: Flow) -> usize {
        self.waiting.get(&flow).map_or(0, VecDeque::len)
    }
}
