//! The conductor: releases what is held back, one circuit at a time: a few probes first, then at a pace.
//!
//! Any number of workers may run it. A circuit names the time at which somebody has to look at it (`release_at`); who
//! looks holds the row's lock meanwhile, and says in the same transaction when to look again.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::{Database, Transaction, begin_write},
    delivery::{CircuitState, EndpointStatus, Ordering},
    entities::endpoint,
    ids::EndpointId,
    queue::{Flow, Lane, Queue},
    settings::{self, Settings},
    store::{Circuit, circuits, release},
};
use sea_orm::{DbErr, EntityTrait as _};

use super::{order, providers};
use crate::{
    dispatch::{Dispatched, StepError, claims_may_be_lost, push},
    guard::refusal,
};

/// How many circuits one step looks at most.
pub const BATCH: u64 = 100;
/// How often a circuit that releases is looked at.
const TICK: TimeDelta = TimeDelta::milliseconds(250);
/// Ticks in a second.
const TICKS: u32 = 4;
/// How long released probes may take to reach the circuit before others are released instead.
const PROBES_ON_THEIR_WAY: TimeDelta = TimeDelta::seconds(60);

/// Looks at the circuits that are due, and returns how many there were.
///
/// # Errors
/// When the database or the queue cannot be reached; nothing is lost then.
pub async fn step(
    db: &Database,
    queue: &Queue,
    settings: &Settings,
    now: Timestamp,
) -> Result<u64, StepError> {
    let mut looked = 0;
    while looked < BATCH {
        let tx = begin_write(db).await?;
        let Some(circuit) = circuits::due(&tx, now).await? else {
            break;
        };
        let provider_is_back = circuit.tenant_id.is_none() && circuit.state == CircuitState::Closed;
        let released = look(&tx, queue, settings, circuit, now).await?;
        let committed = tx.commit().await;
        committed.inspect_err(|error| claims_may_be_lost(db, error, now))?;
        push(db, queue, &released, now).await?;
        if provider_is_back {
            providers::wake_others(db, settings, now).await?;
        }
        looked += 1;
    }
    Ok(looked)
}

/// Lets go of what has expired while it was held back, wherever it waits: it ends without an attempt. Returns how much
/// there was.
///
/// # Errors
/// When the database or the queue cannot be reached; nothing is lost then.
pub async fn expire(db: &Database, queue: &Queue, now: Timestamp) -> Result<u64, StepError> {
    let released = release::expired(db, now).await;
    let released = released.inspect_err(|error| claims_may_be_lost(db, error, now))?;
    push(db, queue, &released, now).await?;
    Ok(released.len() as u64)
}

/// Wakes circuits that hold something back and have nobody who looks at them. There are none, unless something went
/// wrong that nobody has thought of. Costs one look into an index for each circuit that holds something back.
///
/// Left alone is what waits for somebody's hand, and what waits for a turn that is under way.
///
/// # Errors
/// When the database fails.
pub async fn find_forgotten(db: &Database, now: Timestamp) -> Result<u64, DbErr> {
    circuits::wake_forgotten(db, now).await
}

/// What is to be done for one circuit.
enum Release {
    /// Nothing, until this time or until somebody wakes it.
    Nothing(Option<Timestamp>),
    /// The delivery whose turn it is.
    Head,
    /// So many of the oldest; then look again at this time, if there may be more.
    Oldest(u32, Timestamp),
    /// So many of the oldest as probes, and what has expired besides.
    Probes(u32),
}

impl Release {
    fn at_pace(pace: u32, now: Timestamp) -> Self {
        Self::Oldest(pace.div_ceil(TICKS).min(release::BATCH), now + TICK)
    }
}

async fn look(
    tx: &Transaction,
    queue: &Queue,
    settings: &Settings,
    mut circuit: Circuit,
    now: Timestamp,
) -> Result<Vec<Dispatched>, StepError> {
    let endpoint = match circuit.tenant_id {
        Some(_) => {
            endpoint::Entity::find_by_id(EndpointId::from_uuid(circuit.id))
                .one(tx)
                .await?
        }
        None => None,
    };
    let instead = providers::pace_of_another(tx, settings, &circuit).await?;
    let release = match instead {
        Some(pace) => Release::at_pace(pace, now),
        None => plan(&circuit, endpoint.as_ref(), &settings.circuit, now),
    };
    let (released, again) = match release {
        Release::Nothing(again) => (Vec::new(), again),
        Release::Head => {
            let head = order::parked_head(tx, &mut circuit, now).await?;
            let released = match head {
                Some(head) => release::one(tx, head, now).await?,
                None => Vec::new(),
            };
            (released, None)
        }
        Release::Oldest(count, again) => {
            let count = match &endpoint {
                Some(endpoint) => count.min(room(queue, endpoint.id, count).await?),
                None => count,
            };
            let released = release::oldest(tx, circuit.id, count, now).await?;
            let more = count == 0 || released.len() as u64 >= count.into();
            (released, more.then_some(again))
        }
        Release::Probes(count) => {
            let mut released = release::expired_of(tx, circuit.id, now).await?;
            let again = if released.is_empty() {
                PROBES_ON_THEIR_WAY
            } else {
                TICK
            };
            released.extend(release::probes(tx, circuit.id, count, now).await?);
            let again = (!released.is_empty()).then_some(now + again);
            (released, again)
        }
    };
    circuit.release_at = again;
    circuits::save(tx, circuit, now).await?;
    Ok(released)
}

fn plan(
    circuit: &Circuit,
    endpoint: Option<&endpoint::Model>,
    policy: &settings::Circuit,
    now: Timestamp,
) -> Release {
    let takes_nothing = match endpoint {
        // Let go, it ends with the endpoint's reason.
        Some(endpoint) => refusal(endpoint).is_some(),
        None => circuit.tenant_id.is_some(),
    };
    if takes_nothing {
        return Release::Oldest(release::BATCH, now);
    }
    if endpoint.is_some_and(|endpoint| endpoint.status == EndpointStatus::Paused) {
        return Release::Nothing(None);
    }
    let in_order = endpoint.is_some_and(|endpoint| endpoint.ordering == Some(Ordering::Fifo));
    if circuit.state == CircuitState::Closed {
        let limit = endpoint.and_then(|endpoint| endpoint.rate_limit_per_s);
        let limit = limit.and_then(|limit| u32::try_from(limit).ok());
        let pace = circuit.release_pace().min(limit.unwrap_or(u32::MAX));
        return if in_order {
            Release::Head
        } else {
            Release::at_pace(pace, now)
        };
    }
    match circuit.probes_wanted(policy, now) {
        0 => Release::Nothing(circuit.retry_at),
        _ if in_order => Release::Head,
        wanted => Release::Probes(wanted),
    }
}

/// How many more of an endpoint's deliveries may go onto the queue: what waits in the database costs nothing, and can be
/// held back at the first sign of trouble.
async fn room(queue: &Queue, endpoint: EndpointId, pace: u32) -> Result<u32, StepError> {
    let waiting = queue
        .waiting(Lane::Webhooks, Flow::Endpoint(endpoint))
        .await?;
    let free = u64::from(pace * TICKS).saturating_sub(waiting);
    Ok(u32::try_from(free).unwrap_or(u32::MAX))
}
