//! Step 5: write the outcomes of a slice of deliveries in one transaction: the deliveries, their attempts, what the
//! attempts say about the circuits, and what follows from all that.

mod at_once;
mod batches;
mod follow;
mod late;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use relaypost_shared::{
    circuit::{self, Signal},
    clock::Timestamp,
    db::{
        self, Database, Transaction,
        rows::{self, Column, Kind},
    },
    delivery::{AttemptOutcome, DeliveryKind, ErrorClass, Ordering, Outcome, Status, is_reserved},
    entities::{attempt, delivery},
    ids::{AttemptId, DeliveryId, ReplayId},
    replay, settings,
};
use sea_orm::{ConnectionTrait, DbErr, TryGetable};
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

/// Columns of the rows that the update joins with.
const GIVEN: [Column; 9] = [
    Column::new("delivery_id", Kind::Uuid),
    Column::new("seen", Kind::Integer),
    Column::new("attempts", Kind::Integer),
    Column::new("new_status", Kind::Text),
    Column::nullable("next_at", Kind::Time),
    Column::nullable("why", Kind::Text),
    Column::nullable("class", Kind::Text),
    Column::nullable("finished", Kind::Time),
    // The last: only where there are mails.
    Column::nullable("token", Kind::Uuid),
];

/// What an outcome makes of a delivery.
const SET: &str = "status = new_status, attempt_count = attempts, next_attempt_at = next_at, \
     dispatch_at = next_at, reason = why, error_class = class, finished_at = finished, parked_for = NULL, \
     dead_at = CASE new_status WHEN 'dead' THEN finished END";
/// What it makes of a mark.
const CLEAR: &str = "sending_token = NULL, sending_at = NULL";

/// Only a delivery that is still as it was loaded is changed: when two workers had the same one, the first result
/// counts and the second changes nothing.
const AS_LOADED: &str =
    "FROM given WHERE id = delivery_id AND attempt_count = seen AND status = 'pending'";
/// While a mail is handed over, only the attempt that does so says what becomes of it.
const NOT_OTHERS: &str = "AND (sending_token IS NULL OR sending_token = token)";
const RETURNING: &str = "RETURNING id, replay_id";

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
    let mut jobs = update(&transaction, slice).await?;
    let late = late::settle(&transaction, slice, &jobs).await?;
    let counts = |id: &DeliveryId| jobs.contains_key(id) || late.counted.contains_key(id);
    insert_attempts(&transaction, slice, counts, ONCE).await?;
    let corrects = |id: &DeliveryId| late.corrected.contains_key(id);
    insert_attempts(&transaction, slice, corrects, late::REPLACE).await?;
    jobs.extend(late.corrected);
    let effective: Vec<&Recorded> = slice
        .iter()
        .map(Arc::as_ref)
        .filter(|one| jobs.contains_key(&one.id()))
        .collect();
    // By the job in the row: another one may have replayed the delivery since it was loaded.
    let of_jobs = effective.iter().filter_map(|one| {
        let job = (*jobs.get(&one.id())?)?;
        Some((job, one.outcome.status()))
    });
    replay::count(&transaction, of_jobs, now).await?;
    let released = follow::up(&transaction, &mut observed, &effective, now).await?;
    observed.write(&transaction, now).await?;
    let committed = transaction.commit().await;
    committed.inspect_err(|error| claims_may_be_lost(db, error, now))?;
    Ok(Written {
        effective: jobs.into_keys().collect(),
        released,
    })
}

/// Deliveries that were changed, each with the replay job that it belongs to.
type Jobs = HashMap<DeliveryId, Option<ReplayId>>;

async fn update(transaction: &Transaction, slice: &[Arc<Recorded>]) -> Result<Jobs, DbErr> {
    let slice: Vec<&Recorded> = slice.iter().map(Arc::as_ref).collect();
    let statement = if slice.iter().any(|one| one.is_mail()) {
        format!("UPDATE deliveries SET {SET}, {CLEAR} {AS_LOADED} {NOT_OTHERS} {RETURNING}")
    } else {
        format!("UPDATE deliveries SET {SET} {AS_LOADED} {RETURNING}")
    };
    write(transaction, &slice, &statement).await
}

/// Runs a statement with the rows of a slice as `given`, and returns the deliveries that it changed.
async fn write(
    transaction: &Transaction,
    slice: &[&Recorded],
    statement: &str,
) -> Result<Jobs, DbErr> {
    let backend = transaction.get_database_backend();
    let mails = slice.iter().any(|one| one.is_mail());
    let columns = if mails {
        &GIVEN
    } else {
        &GIVEN[..GIVEN.len() - 1]
    };
    let rows = slice.iter().map(|one| one.row(mails)).collect();
    let statement = rows::given(backend, columns, rows, Vec::new(), statement)?;
    let updated = transaction.query_all_raw(statement).await?;
    updated
        .iter()
        .map(|row| {
            let id = DeliveryId::try_get(row, "", "id")?;
            Ok((id, row.try_get("", "replay_id")?))
        })
        .collect()
}

/// An attempt that is recorded already stays as it is.
const ONCE: &str = "ON CONFLICT (delivery_id, number) DO NOTHING";

async fn insert_attempts(
    transaction: &Transaction,
    slice: &[Arc<Recorded>],
    of: impl Fn(&DeliveryId) -> bool,
    on_conflict: &str,
) -> Result<(), DbErr> {
    let attempts: Vec<attempt::Model> = slice
        .iter()
        .filter(|recorded| of(&recorded.id()))
        .filter_map(|one| one.attempt())
        .collect();
    if attempts.is_empty() {
        return Ok(());
    }
    let backend = transaction.get_database_backend();
    let statement = rows::insert::<attempt::Entity>(backend, &attempts, Vec::new(), on_conflict)?;
    transaction.execute_raw(statement).await.map(|_| ())
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
    fn delivery(&self) -> &delivery::Model {
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

    /// Whether it was delivered, and nobody waits for its end: no turn passes on, no replay job counts it.
    fn is_plain(&self) -> bool {
        self.outcome == Outcome::Delivered
            && self.delivery().replay_id.is_none()
            && self.ends_turn_at().is_none()
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

    fn is_mail(&self) -> bool {
        self.delivery().kind == DeliveryKind::Email
    }

    /// Its row of [`GIVEN`]; the token only `with_token`.
    fn row(&self, with_token: bool) -> Vec<sea_orm::Value> {
        let status = self.outcome.status();
        let seen = self.delivery().attempt_count;
        let attempts = seen + i32::from(self.attempted.is_some());
        let finished = (status != Status::Pending).then_some(self.at);
        let mut row = vec![
            self.id().into(),
            seen.into(),
            attempts.into(),
            status.as_str().into(),
            self.outcome.next_attempt_at().into(),
            self.outcome
                .reason()
                .map(|reason| reason.as_str().to_owned())
                .into(),
            self.error_class()
                .map(|class| class.as_str().to_owned())
                .into(),
            finished.into(),
        ];
        if with_token {
            let handover = self.attempted.as_ref().and_then(|one| one.handover);
            row.push(handover.into());
        }
        row
    }

    /// Why the last attempt failed; the class of an earlier attempt stays when this time none was made.
    fn error_class(&self) -> Option<ErrorClass> {
        match &self.attempted {
            Some(attempted) => attempted.result.as_ref().err().map(|failure| failure.class),
            None => self.delivery().error_class,
        }
    }

    fn attempt(&self) -> Option<attempt::Model> {
        let attempted = self.attempted.as_ref()?;
        let (outcome, class, status, snippet) = match &attempted.result {
            Ok(success) => (
                AttemptOutcome::Delivered,
                None,
                success.status,
                success.snippet.clone(),
            ),
            Err(failure) => (
                AttemptOutcome::Failed,
                Some(failure.class),
                failure.status,
                failure.snippet.clone(),
            ),
        };
        Some(attempt::Model {
            delivery_id: self.id(),
            number: self.delivery().attempt_count + 1,
            id: AttemptId::generate(self.at),
            tenant_id: self.delivery().tenant_id,
            started_at: attempted.started_at,
            duration_ms: attempted.millis(),
            outcome,
            error_class: class,
            http_status: status.map(i32::from),
            response_snippet: snippet,
            request_id: self.loaded.request_id().to_owned(),
        })
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id(), self.outcome.name())
    }
}
