//! What a change of an endpoint does to its circuit and to the deliveries that wait for it.
//!
//! No transition: deliveries become due, or are released, and workers take them further. Every function locks the circuit
//! until the transaction ends, so the caller changes the row of the endpoint only after the first of them: workers lock in
//! the same order, circuit, endpoint, deliveries. When the caller has committed, a delivery that a worker parks at the same
//! moment is either released or was parked with the change in view. A kill before the commit changes nothing.

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{
    Circuit,
    schema::delivery::{Column, Entity},
};
use crate::{
    circuit::{Notice, create_missing, lock, save, wake},
    clock::Timestamp,
    db::Transaction,
    events::{self, Event},
    ids::{EndpointId, TenantId},
    queue::Job,
};

/// Locks the circuit of a tenant's endpoint. One that has no row gets a closed one.
///
/// # Errors
/// When the database fails.
pub async fn lock_circuit(
    tx: &Transaction,
    tenant: TenantId,
    endpoint: EndpointId,
    now: Timestamp,
) -> Result<Circuit, DbErr> {
    let id = endpoint.uuid();
    create_missing(tx, [(id, Some(tenant))], now).await?;
    let circuit = lock(tx, [id]).await?.remove(&id);
    circuit.ok_or_else(|| DbErr::Custom("the circuit just made is gone".to_owned()))
}

/// Writes a circuit that [`lock_circuit`] returned and that was changed by hand, with the events that `notices` are to
/// operators. Returns the jobs of those events, which are due at once.
///
/// # Errors
/// When the database fails.
pub async fn save_circuit(
    tx: &Transaction,
    circuit: Circuit,
    notices: Vec<Notice>,
    now: Timestamp,
) -> Result<Vec<Job>, DbErr> {
    let events = notices
        .into_iter()
        .filter_map(|notice| Event::of_circuit(&circuit, notice))
        .collect();
    save(tx, circuit, now).await?;
    events::tell(tx, events, now).await
}

/// Has the workers look at once at what is parked for an endpoint that changes: it may go another way now, in order or
/// not, faster or slower. Comes before the change of the endpoint.
///
/// # Errors
/// When the database fails.
pub async fn before_change(
    tx: &Transaction,
    endpoint: EndpointId,
    now: Timestamp,
) -> Result<(), DbErr> {
    wake(tx, endpoint.uuid(), now).await
}

/// Releases what is parked for a tenant's endpoint that is deleted, so that workers end it. Comes before the deletion.
///
/// # Errors
/// When the database fails.
pub async fn before_deletion(
    tx: &Transaction,
    tenant: TenantId,
    endpoint: EndpointId,
    now: Timestamp,
) -> Result<(), DbErr> {
    let id = endpoint.uuid();
    create_missing(tx, [(id, Some(tenant))], now).await?;
    wake(tx, id, now).await
}

/// Makes every delivery due that waits for its next attempt at an endpoint that was deleted: workers end it, as they end
/// what is on the queue.
///
/// # Errors
/// When the database fails.
pub async fn after_deletion(
    tx: &Transaction,
    endpoint: EndpointId,
    now: Timestamp,
) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::DispatchAt, Expr::value(now))
        .filter(Column::EndpointId.eq(endpoint))
        .filter(Column::DispatchAt.gt(now))
        .exec(tx)
        .await
        .map(|_| ())
}
