//! `ordering: "fifo"`: an endpoint's messages in the order accepted, one at a time.
//!
//! The circuit's row names the delivery whose turn it is (`head`), and the turn passes on only when that delivery has
//! ended, however many attempts and however long it takes. It is a lease in the database without a time-out, so that
//! neither a lost queue nor a dead worker lets two go at once. The price: a write to park and one to release for what
//! waits, and one row that all of the endpoint's deliveries take turns on.

use relaypost_shared::{
    clock::Timestamp,
    delivery::Status,
    entities::{circuit, delivery},
    ids::{DeliveryId, EndpointId},
};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

/// Whether it is this delivery's turn. The circuit is locked; where nobody has the turn, the oldest gets it.
pub(super) async fn has_turn(
    tx: &impl ConnectionTrait,
    circuit: &mut circuit::Model,
    delivery: &delivery::Model,
    now: Timestamp,
) -> Result<bool, DbErr> {
    if circuit.head == Some(delivery.id) {
        return Ok(true);
    }
    if let Some(head) = circuit.head
        && is_pending(tx, head).await?
    {
        return Ok(false);
    }
    let oldest = oldest(tx, circuit, now).await?;
    let head = oldest.map_or(delivery.id, |oldest| oldest.min(delivery.id));
    circuit.head = Some(head);
    Ok(head == delivery.id)
}

/// Passes the turn on after `ended`, and returns whose it is now: if that one is parked it has to be released, else its
/// job brings it. The circuit is locked.
///
/// Only who had the turn is settled: what ends out of turn, because it expires or is a test, is newer than some that
/// still wait.
pub(crate) async fn next_in_order(
    tx: &impl ConnectionTrait,
    circuit: &mut circuit::Model,
    ended: DeliveryId,
    now: Timestamp,
) -> Result<Option<DeliveryId>, DbErr> {
    if circuit.head.is_some_and(|head| head != ended) {
        return Ok(None);
    }
    circuit.settled = circuit.settled.max(circuit.head);
    circuit.head = oldest(tx, circuit, now).await?;
    Ok(circuit.head)
}

/// The delivery that has the turn, if it is parked: what the conductor releases. Passes the turn on when the one that
/// has it is gone.
pub(super) async fn parked_head(
    tx: &impl ConnectionTrait,
    circuit: &mut circuit::Model,
    now: Timestamp,
) -> Result<Option<DeliveryId>, DbErr> {
    if let Some(head) = circuit.head {
        let row = delivery::Entity::find_by_id(head).one(tx).await?;
        if let Some(row) = row.filter(|row| row.status == Status::Pending) {
            return Ok(row.parked_for.map(|_| row.id));
        }
        return next_in_order(tx, circuit, head, now).await;
    }
    circuit.head = oldest(tx, circuit, now).await?;
    Ok(circuit.head)
}

async fn is_pending(tx: &impl ConnectionTrait, id: DeliveryId) -> Result<bool, DbErr> {
    let row = delivery::Entity::find_by_id(id).one(tx).await?;
    Ok(row.is_some_and(|row| row.status == Status::Pending))
}

/// The oldest of what is parked and of what is on its way: accepted after the last that had its turn, and not waiting
/// for a time that its sender chose.
async fn oldest(
    tx: &impl ConnectionTrait,
    circuit: &circuit::Model,
    now: Timestamp,
) -> Result<Option<DeliveryId>, DbErr> {
    use delivery::Column;
    let due = Condition::any()
        .add(Column::AttemptCount.gt(0))
        .add(Column::NextAttemptAt.is_null())
        .add(Column::NextAttemptAt.lte(now));
    let mut under_way = delivery::Entity::find()
        .filter(Column::EndpointId.eq(EndpointId::from_uuid(circuit.id)))
        .filter(Column::Status.eq(Status::Pending))
        .filter(due);
    if let Some(settled) = circuit.settled {
        under_way = under_way.filter(Column::Id.gt(settled));
    }
    let under_way = under_way
        .select_only()
        .column(Column::Id)
        .order_by_asc(Column::Id)
        .limit(1)
        .into_tuple::<DeliveryId>()
        .one(tx)
        .await?;
    let parked = first_parked(tx, circuit.id).await?;
    Ok(under_way.into_iter().chain(parked).min())
}

async fn first_parked(
    tx: &impl ConnectionTrait,
    circuit: uuid::Uuid,
) -> Result<Option<DeliveryId>, DbErr> {
    use delivery::Column;
    delivery::Entity::find()
        .filter(Column::ParkedFor.eq(circuit))
        // Whoever has given one up need not know of turns.
        .filter(Column::Status.eq(Status::Pending))
        .select_only()
        .column(Column::Id)
        .order_by_asc(Column::Id)
        .limit(1)
        .into_tuple()
        .one(tx)
        .await
}
