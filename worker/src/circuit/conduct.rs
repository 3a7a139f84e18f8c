//! The conductor: releases what is held back, one circuit at a time: a few probes first, then at a pace.
//!
//! Any number of workers may run it. A circuit names the time at which somebody has to look at it (`release_at`); who
//! looks holds the row's lock meanwhile, and says in the same transaction when to look again.

use chrono::TimeDelta;
use relaypost_shared::{
    circuit as machine,
    clock::Timestamp,
    db::{self, Database, Transaction, begin_write},
    delivery::{CircuitState, EndpointStatus, Ordering},
    entities::{circuit, endpoint},
    ids::{DeliveryId, EndpointId},
    queue::{Flow, Lane, Queue},
    settings::{self, Settings},
};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, Statement};
use uuid::Uuid;

use super::{order, providers};
use crate::{
    dispatch::{CLAIM, Dispatched, StepError, claims_may_be_lost, push},
    guard::refusal,
};

/// How many circuits one step looks at most.
pub const BATCH: u64 = 100;
/// How many deliveries are released at once at most.
const RELEASE: u32 = 500;
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
        let Some(circuit) = due(&tx, now).await? else {
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
    let expired = format!(
        "id IN (SELECT id FROM deliveries WHERE expires_at <= $2 AND parked_for IS NOT NULL ORDER BY expires_at LIMIT $3{})",
        db::skip_locked(db.get_database_backend())
    );
    let params = vec![now.into(), i64::from(RELEASE).into()];
    let released = release(db, &expired, params, now).await;
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
    // The next value after the last, again and again: neither database skips over equal values of an index by itself.
    let sql = "WITH RECURSIVE held(id) AS (\
         SELECT (SELECT parked_for FROM deliveries WHERE parked_for IS NOT NULL ORDER BY parked_for LIMIT 1) \
         UNION ALL \
         SELECT (SELECT parked_for FROM deliveries WHERE parked_for > held.id ORDER BY parked_for LIMIT 1) \
         FROM held WHERE held.id IS NOT NULL) \
         UPDATE circuits SET release_at = $1 WHERE release_at IS NULL AND id IN (SELECT id FROM held WHERE id IS NOT NULL) \
         AND NOT EXISTS (SELECT 1 FROM endpoints WHERE endpoints.id = circuits.id \
         AND endpoints.deleted_at IS NULL AND endpoints.status <> 'disabled' AND (endpoints.status = 'paused' \
         OR (circuits.state = 'open' AND circuits.retry_at IS NULL) \
         OR (endpoints.ordering = 'fifo' AND EXISTS (SELECT 1 FROM deliveries WHERE deliveries.id = circuits.head \
         AND deliveries.status = 'pending' AND deliveries.parked_for IS NULL))))";
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, [now.into()]);
    Ok(db.execute_raw(statement).await?.rows_affected())
}

async fn due(tx: &Transaction, now: Timestamp) -> Result<Option<circuit::Model>, DbErr> {
    let backend = tx.get_database_backend();
    let sql = format!(
        "SELECT * FROM circuits WHERE release_at <= $1 ORDER BY release_at LIMIT 1{}",
        db::skip_locked(backend)
    );
    circuit::Entity::find()
        .from_raw_sql(Statement::from_sql_and_values(backend, sql, [now.into()]))
        .one(tx)
        .await
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
        Self::Oldest(pace.div_ceil(TICKS).min(RELEASE), now + TICK)
    }
}

async fn look(
    tx: &Transaction,
    queue: &Queue,
    settings: &Settings,
    mut circuit: circuit::Model,
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
            let released = release_one(tx, head, now).await?;
            (released, None)
        }
        Release::Oldest(count, again) => {
            let count = match &endpoint {
                Some(endpoint) => count.min(room(queue, endpoint.id, count).await?),
                None => count,
            };
            let released = release_oldest(tx, circuit.id, count, now).await?;
            let more = count == 0 || released.len() as u64 >= count.into();
            (released, more.then_some(again))
        }
        Release::Probes(count) => {
            let mut released = release_expired(tx, circuit.id, now).await?;
            let again = if released.is_empty() {
                PROBES_ON_THEIR_WAY
            } else {
                TICK
            };
            released.extend(release_probes(tx, circuit.id, count, now).await?);
            let again = (!released.is_empty()).then_some(now + again);
            (released, again)
        }
    };
    circuit.release_at = again;
    machine::save(tx, circuit, now).await?;
    Ok(released)
}

fn plan(
    circuit: &circuit::Model,
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
        return Release::Oldest(RELEASE, now);
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

/// Releases one delivery that is parked.
pub(crate) async fn release_one(
    tx: &impl ConnectionTrait,
    delivery: Option<DeliveryId>,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let Some(delivery) = delivery else {
        return Ok(Vec::new());
    };
    release(tx, "id = $2", vec![delivery.into()], now).await
}

async fn release_oldest(
    tx: &Transaction,
    circuit: Uuid,
    count: u32,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let oldest = "id IN (SELECT id FROM deliveries WHERE parked_for = $2 ORDER BY id LIMIT $3)";
    let params = vec![circuit.into(), i64::from(count).into()];
    release(tx, oldest, params, now).await
}

/// A probe that fails costs its delivery an attempt, so among the oldest those go first that have had the fewest.
async fn release_probes(
    tx: &Transaction,
    circuit: Uuid,
    count: u32,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let freshest = "id IN (SELECT id FROM (\
         SELECT id, attempt_count FROM deliveries WHERE parked_for = $2 ORDER BY id LIMIT $3) AS oldest \
         ORDER BY attempt_count, id LIMIT $4)";
    let (oldest, count) = (i64::from(RELEASE), i64::from(count));
    let params = vec![circuit.into(), oldest.into(), count.into()];
    release(tx, freshest, params, now).await
}

/// Lets go of what has expired among the oldest: it ends without an attempt, so it would be no probe.
async fn release_expired(
    tx: &Transaction,
    circuit: Uuid,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    let expired = "id IN (SELECT id FROM (\
         SELECT id, expires_at FROM deliveries WHERE parked_for = $2 ORDER BY id LIMIT $3) AS oldest \
         WHERE expires_at <= $4)";
    let params = vec![circuit.into(), i64::from(RELEASE).into(), now.into()];
    release(tx, expired, params, now).await
}

/// Releases as the dispatcher claims: should the job be lost, it is found again. What somebody else has released or ended
/// while this statement waited for its row is left alone.
async fn release(
    tx: &impl ConnectionTrait,
    which: &str,
    params: Vec<sea_orm::Value>,
    now: Timestamp,
) -> Result<Vec<Dispatched>, DbErr> {
    // CASE hides the condition from PostgreSQL's planner. With statistics from before an outage it takes the index of what
    // is parked for a small one, and would look through all of it for each row.
    let sql = format!(
        "UPDATE deliveries SET parked_for = NULL, dispatch_at = CASE status WHEN 'pending' THEN $1 END \
         WHERE {which} AND CASE WHEN parked_for IS NULL THEN 0 ELSE 1 END = 1 \
         RETURNING id, tenant_id, endpoint_id, kind, replayed_at"
    );
    let params = std::iter::once((now + CLAIM).into()).chain(params);
    let rows = tx
        .query_all_raw(Statement::from_sql_and_values(
            tx.get_database_backend(),
            sql,
            params,
        ))
        .await?;
    rows.iter().map(Dispatched::read).collect()
}
