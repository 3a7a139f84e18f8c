//! Asks circuits, under their lock, whether deliveries may be sent, and parks those that may not.

use std::collections::{BTreeMap, HashMap};

use chrono::TimeDelta;
use relaypost_shared::{
    circuit::Admission,
    clock::Timestamp,
    db::{Database, Transaction, begin_write},
    delivery::{CircuitState, EndpointStatus, Ordering, Outcome, ParkedReason, Reason},
    entities::endpoint,
    ids::{DeliveryId, EndpointId},
    settings,
    store::{Circuit, Delivery, circuits, park},
};
use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _};
use uuid::Uuid;

use super::{Pass, order, patience};
use crate::{
    guard::refusal,
    load::{Loaded, Target},
};

/// What the circuits say of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send it.
    Send(Pass),
    /// It is parked: written down, and nothing more to do until its circuit releases it.
    Parked,
    /// It ends here, without an attempt.
    End(Outcome),
}

/// Asks for a slice of deliveries, and returns an answer for each, in the order given. What is to be parked is parked
/// when this returns: with one write, however long it then has to wait.
///
/// # Errors
/// When the database fails; then nothing was written, and no probe is taken.
pub async fn ask(
    db: &Database,
    policy: &settings::Circuit,
    timeout: TimeDelta,
    providers: &[Uuid],
    slice: &[Loaded],
    now: Timestamp,
) -> Result<Vec<Answer>, DbErr> {
    let tx = begin_write(db).await?;
    let owners: BTreeMap<Uuid, _> = slice
        .iter()
        .filter_map(|loaded| match &loaded.target {
            Target::Webhook { endpoint, .. } => {
                Some((endpoint.id.uuid(), Some(endpoint.tenant_id)))
            }
            Target::Email { .. } | Target::Missing => None,
        })
        .collect();
    circuits::create_missing(&tx, owners.clone(), now).await?;
    let mut ids: Vec<Uuid> = owners.into_keys().collect();
    if slice
        .iter()
        .any(|one| matches!(one.target, Target::Email { .. }))
    {
        ids.extend(providers);
    }
    let locked = circuits::lock(&tx, ids).await?;
    let mut desk = Desk {
        before: locked.clone(),
        circuits: locked,
        endpoints: fresh_endpoints(&tx, slice).await?,
        parked: BTreeMap::new(),
        policy,
        timeout,
        providers,
        now,
    };
    let mut oldest_first: Vec<usize> = (0..slice.len()).collect();
    oldest_first.sort_by_key(|index| slice[*index].delivery.id);
    let mut answers = vec![Answer::Parked; slice.len()];
    for index in oldest_first {
        answers[index] = desk.answer(&tx, &slice[index]).await?;
    }
    desk.write(&tx).await?;
    tx.commit().await?;
    Ok(answers)
}

/// The endpoints as they are now that their circuits are locked: a pause or a resumption may have come in between.
async fn fresh_endpoints(
    tx: &Transaction,
    slice: &[Loaded],
) -> Result<HashMap<EndpointId, endpoint::Model>, DbErr> {
    let ids = slice
        .iter()
        .filter_map(|loaded| loaded.delivery.endpoint_id);
    let rows = endpoint::Entity::find()
        .filter(endpoint::Column::Id.is_in(ids))
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Everything that answers are given from.
struct Desk<'a> {
    before: BTreeMap<Uuid, Circuit>,
    circuits: BTreeMap<Uuid, Circuit>,
    endpoints: HashMap<EndpointId, endpoint::Model>,
    parked: BTreeMap<Uuid, HashMap<ParkedReason, Vec<DeliveryId>>>,
    policy: &'a settings::Circuit,
    timeout: TimeDelta,
    providers: &'a [Uuid],
    now: Timestamp,
}

impl Desk<'_> {
    async fn answer(&mut self, tx: &Transaction, loaded: &Loaded) -> Result<Answer, DbErr> {
        match &loaded.target {
            Target::Webhook { endpoint, .. } => {
                self.answer_webhook(tx, &loaded.delivery, endpoint.id).await
            }
            Target::Email { .. } => Ok(self.answer_email(loaded.delivery.id)),
            Target::Missing => Ok(end(Reason::EndpointDeleted)),
        }
    }

    async fn answer_webhook(
        &mut self,
        tx: &Transaction,
        delivery: &Delivery,
        id: EndpointId,
    ) -> Result<Answer, DbErr> {
        let (Some(endpoint), Some(circuit)) =
            (self.endpoints.get(&id), self.circuits.get_mut(&id.uuid()))
        else {
            return Ok(end(Reason::EndpointDeleted));
        };
        if let Some(reason) = refusal(endpoint) {
            return Ok(end(reason));
        }
        let in_turn = match endpoint.ordering {
            Some(Ordering::Fifo) => order::has_turn(tx, circuit, delivery, self.now).await?,
            None => true,
        };
        if endpoint.status == EndpointStatus::Paused {
            return Ok(self.park(id.uuid(), ParkedReason::Paused, delivery.id));
        }
        if !in_turn {
            return Ok(self.park(id.uuid(), ParkedReason::Ordered, delivery.id));
        }
        let patience = patience(self.timeout, Some(endpoint));
        Ok(match circuit.admit(self.policy, patience, self.now) {
            Admission::Send(epoch) => Answer::Send(Pass::Through(vec![(id.uuid(), epoch)])),
            Admission::Park => self.park(id.uuid(), ParkedReason::CircuitOpen, delivery.id),
        })
    }

    /// The providers in their order, up to and with the first that is closed; closed ones behind it stand in for it. At
    /// most one is probed with this mail: a probe that is not made would only be waited for.
    fn answer_email(&mut self, delivery: DeliveryId) -> Answer {
        let patience = patience(self.timeout, None);
        let mut pass = Vec::new();
        let mut probing = false;
        for id in self.providers {
            let Some(circuit) = self.circuits.get_mut(id) else {
                pass.push((*id, None));
                continue;
            };
            let closed = circuit.state == CircuitState::Closed;
            if !closed && (probing || !pass.is_empty()) {
                continue;
            }
            if let Admission::Send(epoch) = circuit.admit(self.policy, patience, self.now) {
                probing |= epoch.is_some();
                pass.push((*id, epoch));
            }
        }
        if !pass.is_empty() {
            return Answer::Send(Pass::Through(pass));
        }
        let first_back = self.providers.iter().min_by_key(|id| {
            let retry_at = self.circuits.get(id).and_then(|circuit| circuit.retry_at);
            retry_at.unwrap_or(Timestamp::MAX_UTC)
        });
        match first_back {
            Some(provider) => self.park(*provider, ParkedReason::CircuitOpen, delivery),
            None => Answer::Send(Pass::Through(Vec::new())),
        }
    }

    fn park(&mut self, circuit: Uuid, reason: ParkedReason, delivery: DeliveryId) -> Answer {
        let parked = self.parked.entry(circuit).or_default();
        parked.entry(reason).or_default().push(delivery);
        if let Some(row) = self.circuits.get_mut(&circuit)
            && let Some(at) = row.retry_at
        {
            row.release_by(at);
        }
        Answer::Parked
    }

    async fn write(self, tx: &Transaction) -> Result<(), DbErr> {
        for (circuit, deliveries) in &self.parked {
            for (reason, deliveries) in deliveries {
                park::park(tx, *circuit, *reason, deliveries, self.now).await?;
            }
        }
        circuits::save_changed(tx, &self.before, self.circuits, self.now).await
    }
}

fn end(reason: Reason) -> Answer {
    Answer::End(Outcome::DeadLettered(reason))
}
