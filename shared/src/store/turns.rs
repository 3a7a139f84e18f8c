//! Reads whose turn it is at an endpoint that gets its messages in order.
//!
//! Guarantee: with the circuit locked, the answer stays true until the transaction ends as far as turns are concerned,
//! because only the holder of that lock gives the turn to a delivery.
//!
//! No transition of a delivery is made here: the delivery that gets the turn is released by [`super::release::one`].

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use uuid::Uuid;

use super::{
    Circuit,
    schema::delivery::{Column, Entity},
};
use crate::{
    clock::Timestamp,
    delivery::Status,
    ids::{DeliveryId, EndpointId},
};

/// Where a delivery is that has the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// It is on its way, or waits for its next attempt.
    UnderWay,
    /// It is parked.
    Parked,
    /// It has ended, or is gone.
    Ended,
}

/// Finds out where a delivery is that has the turn.
///
/// # Errors
/// When the database fails.
pub async fn holder(tx: &impl ConnectionTrait, id: DeliveryId) -> Result<Holder, DbErr> {
    let row = Entity::find_by_id(id).one(tx).await?;
    let pending = row.filter(|row| row.status == Status::Pending);
    Ok(match pending {
        Some(row) if row.parked_for.is_some() => Holder::Parked,
        Some(_) => Holder::UnderWay,
        None => Holder::Ended,
    })
}

/// Finds the delivery that goes next: the oldest of those that are parked for the circuit and of those that are on their way
/// to its endpoint. The latter count only if they were accepted after the last that had its turn, and do not wait for a time
/// that their sender chose.
///
/// # Errors
/// When the database fails.
pub async fn oldest(
    tx: &impl ConnectionTrait,
    circuit: &Circuit,
    now: Timestamp,
) -> Result<Option<DeliveryId>, DbErr> {
    let under_way = oldest_under_way(tx, circuit, now).await?;
    let parked = oldest_parked(tx, circuit.id).await?;
    Ok(under_way.into_iter().chain(parked).min())
}

async fn oldest_under_way(
    tx: &impl ConnectionTrait,
    circuit: &Circuit,
    now: Timestamp,
) -> Result<Option<DeliveryId>, DbErr> {
    let due = Condition::any()
        .add(Column::AttemptCount.gt(0))
        .add(Column::NextAttemptAt.is_null())
        .add(Column::NextAttemptAt.lte(now));
    let mut under_way = Entity::find()
        .filter(Column::EndpointId.eq(EndpointId::from_uuid(circuit.id)))
        .filter(Column::Status.eq(Status::Pending))
        .filter(due);
    if let Some(settled) = circuit.settled {
        under_way = under_way.filter(Column::Id.gt(settled));
    }
    under_way
        .select_only()
        .column(Column::Id)
        .order_by_asc(Column::Id)
        .limit(1)
        .into_tuple()
        .one(tx)
        .await
}

async fn oldest_parked(
    tx: &impl ConnectionTrait,
    circuit: Uuid,
) -> Result<Option<DeliveryId>, DbErr> {
    Entity::find()
        .filter(Column::ParkedFor.eq(circuit))
        // One that was given up while it was parked stays parked until it is released.
        .filter(Column::Status.eq(Status::Pending))
        .select_only()
        .column(Column::Id)
        .order_by_asc(Column::Id)
        .limit(1)
        .into_tuple()
        .one(tx)
        .await
}
