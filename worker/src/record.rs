//! Step 5: write the outcomes of a slice of deliveries in one transaction: the deliveries with their attempts, which the store
//! records, what the attempts say about the circuits, and what follows from all that.

mod batches;
mod follow;

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use relaypost_shared::{
    circuit::{self, Signal},
    clock::Timestamp,
    db::{self, Database, Postgres, Transaction},
    delivery::{Ordering, Outcome, Status, is_reserved},
    ids::DeliveryId,
    settings,
    store::{
        self, Delivery,
        record::{Delivered, Ended, Report},
    },
};
use sea_orm::DbErr;
use uuid::Uuid;

use crate::{
    circuit::{Told, observe},
    dispatch::{Dispatched, claims_may_be_lost},
    load::{Loaded, Target},
    send::Attempted,
};

pub(crate) use batches::recorder;

/// A decided delivery, to be written down.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The delivery as it was loaded.
    pub loaded: Loaded,
    /// The attempt, where there was one.
    pub attempted: Option<Attempted>,
    /// What it means for the delivery.
    pub outcome: Outcome,
    /// When it was decided.
    pub at: Timestamp,
}

/// What came of recording a slice.
#[derive(Debug, Default)]
pub struct Written {
    /// The deliveries whose outcome took effect.
    pub effective: HashSet<DeliveryId>,
    /// What can go onto the queue now because of it.
    pub(crate) released: Vec<Dispatched>,
}

/// Writes the slice down.
///
/// # Errors
/// When the database fails; then nothing of the slice is written.
pub async fn record(
    db: &Database,
    policy: &settings::Circuit,
    slice: &[Arc<Recorded>],
) -> Result<Written, DbErr> {
    let Some(now) = slice.iter().map(|recorded| recorded.at).max() else {
        return Ok(Written::default());
    };
    let transaction = db::begin_write(db).await?;
    let told = told(&transaction, slice).await?;
    let in_order = slice.iter().filter_map(|one| one.ends_turn_at());
    let disabling = slice.iter().filter_map(|one| one.disables());
    let mut observed = observe(&transaction, policy, &told, in_order.chain(disabling), now).await?;
    let reports: Vec<Report<'_>> = slice.iter().map(|one| one.report()).collect();
    let effective = store::record::write(&transaction, &reports, now).await?;
    let ended: Vec<&Recorded> = slice
        .iter()
        .map(Arc::as_ref)
        .filter(|one| effective.contains(&one.id()))
        .collect();
    let released = follow::up(&transaction, &mut observed, &ended, now).await?;
    observed.write(&transaction, now).await?;
    let committed = transaction.commit().await;
    committed.inspect_err(|error| claims_may_be_lost(db, error, now))?;
    Ok(Written {
        effective,
        released,
    })
}

/// Records those of a slice that were delivered, have an attempt and concern nothing but their own rows, in one statement.
/// Returns the deliveries that are recorded with that. What is left is for [`record`].
///
/// # Errors
/// When the database fails; then nothing is written, unless the connection was lost after it was.
async fn record_plain(
    postgres: &Postgres,
    slice: &[Arc<Recorded>],
) -> Result<HashSet<DeliveryId>, DbErr> {
    let troubled = troubled(slice);
    let untroubled = |one: &&Arc<Recorded>| {
        one.told()
            .all(|told| !troubled.contains(&told.report.circuit))
    };
    let plain = slice.iter().filter(untroubled);
    let plain: Vec<Delivered<'_>> = plain.filter_map(|one| one.plain()).collect();
    store::record::delivered(postgres, &plain).await
}

/// What the attempts of a slice say about circuits. Where all have succeeded and nothing would change it is left out: an
/// endpoint without trouble is not locked.
async fn told(transaction: &Transaction, slice: &[Arc<Recorded>]) -> Result<Vec<Told>, DbErr> {
    let mut told: Vec<Told> = slice.iter().flat_map(|one| one.told()).collect();
    let mut changed = troubled(slice);
    let others: BTreeSet<Uuid> = told
        .iter()
        .map(|told| told.report.circuit)
        .filter(|circuit| !changed.contains(circuit))
        .collect();
    if !others.is_empty() {
        // As they are now: since the deliveries were loaded, others may have failed.
        changed.extend(circuit::restless(transaction, others).await?);
    }
    told.retain(|told| changed.contains(&told.report.circuit));
    Ok(told)
}

/// The circuits about which a slice says something else than that they work.
fn troubled(slice: &[Arc<Recorded>]) -> HashSet<Uuid> {
    slice
        .iter()
        .flat_map(|one| one.told())
        .filter(|told| told.report.signal != Signal::Success)
        .map(|told| told.report.circuit)
        .collect()
}

impl Recorded {
    fn delivery(&self) -> &Delivery {
        &self.loaded.delivery
    }

    fn id(&self) -> DeliveryId {
        self.loaded.delivery.id
    }

    /// Whether it delivers an operator event or a test, about which operators hear nothing.
    fn is_of_operators(&self) -> bool {
        matches!(&self.loaded.target, Target::Webhook { message, .. } if is_reserved(&message.event_type))
    }

    /// What its attempt says about circuits.
    fn told(&self) -> impl Iterator<Item = Told> {
        let reports = self.attempted.iter().flat_map(|one| &one.reports);
        let owner = match &self.loaded.target {
            Target::Webhook { endpoint, .. } => Some(endpoint.tenant_id),
            Target::Email { .. } | Target::Missing => None,
        };
        reports.map(move |report| Told {
            report: *report,
            owner,
            at: self.at,
            silent: self.is_of_operators(),
        })
    }

    /// The report of something that was delivered where nobody waits for its end: no turn passes on, no replay job counts it.
    fn plain(&self) -> Option<Delivered<'_>> {
        let attempt = self.ended().filter(|ended| ended.result.is_ok())?;
        let is_plain = self.outcome == Outcome::Delivered
            && self.delivery().replay_id.is_none()
            && self.ends_turn_at().is_none();
        is_plain.then(|| Delivered {
            delivery: self.delivery(),
            attempt,
            circuit: self.told().next().map(|told| told.report.circuit),
            at: self.at,
        })
    }

    /// The circuit of an endpoint that gets its messages in order, if this delivery has ended.
    fn ends_turn_at(&self) -> Option<Uuid> {
        let Target::Webhook { endpoint, .. } = &self.loaded.target else {
            return None;
        };
        let ends =
            endpoint.ordering == Some(Ordering::Fifo) && self.outcome.status() != Status::Pending;
        ends.then_some(endpoint.id.uuid())
    }

    /// The circuit of the endpoint that said that it wants nothing any more.
    fn disables(&self) -> Option<Uuid> {
        let gone = self.attempted.as_ref()?.is_gone();
        self.delivery()
            .endpoint_id
            .filter(|_| gone)
            .map(|id| id.uuid())
    }

    fn report(&self) -> Report<'_> {
        Report {
            delivery: self.delivery(),
            attempt: self.ended(),
            outcome: self.outcome,
            at: self.at,
        }
    }

    fn ended(&self) -> Option<Ended<'_>> {
        let attempted = self.attempted.as_ref()?;
        let (result, status, snippet, uncertain) = match &attempted.result {
            Ok(success) => (Ok(()), success.status, &success.snippet, false),
            Err(failure) => (
                Err(failure.class),
                failure.status,
                &failure.snippet,
                failure.uncertain,
            ),
        };
        Some(Ended {
            started_at: attempted.started_at,
            duration_ms: attempted.millis(),
            result,
            status: status.map(i32::from),
            snippet: snippet.as_deref(),
            request_id: self.loaded.request_id(),
            token: attempted.handover,
            uncertain,
        })
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.outcome.name())
    }
}
