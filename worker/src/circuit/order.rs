//! `ordering: "fifo"`: an endpoint's messages in the order accepted, one at a time.
//!
//! The circuit's row names the delivery whose turn it is (`head`), and the turn passes on only when that delivery has
//! ended, however many attempts and however long it takes. It is a lease in the database without a time-out, so that
//! neither a lost queue nor a dead worker lets two go at once. The price: a write to park and one to release for what
//! waits, and one row that all of the endpoint's deliveries take turns on.

use relaypost_shared::{
    clock::Timestamp,
    ids::DeliveryId,
    store::{
        Circuit, Delivery,
        turns::{self, Holder},
    },
};
use sea_orm::{ConnectionTrait, DbErr};

/// Whether it is this delivery's turn. The circuit is locked; where nobody has the turn, the oldest gets it.
pub(super) async fn has_turn(
    tx: &impl ConnectionTrait,
    circuit: &mut Circuit,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<bool, DbErr> {
    if circuit.head == Some(delivery.id) {
        return Ok(true);
    }
    if let Some(head) = circuit.head
        && turns::holder(tx, head).await? != Holder::Ended
    {
        return Ok(false);
    }
    let oldest = turns::oldest(tx, circuit, now).await?;
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
    circuit: &mut Circuit,
    ended: DeliveryId,
    now: Timestamp,
) -> Result<Option<DeliveryId>, DbErr> {
    if circuit.head.is_some_and(|head| head != ended) {
        return Ok(None);
    }
    circuit.settled = circuit.settled.max(circuit.head);
    circuit.head = turns::oldest(tx, circuit, now).await?;
    Ok(circuit.head)
}

/// The delivery that has the turn, if it is parked: what the conductor releases. Passes the turn on when the one that
/// has it is gone.
pub(super) async fn parked_head(
    tx: &impl ConnectionTrait,
    circuit: &mut Circuit,
    now: Timestamp,
) -> Result<Option<DeliveryId>, DbErr> {
    if let Some(head) = circuit.head {
        return match turns::holder(tx, head).await? {
            Holder::Parked => Ok(Some(head)),
            Holder::UnderWay => Ok(None),
            Holder::Ended => next_in_order(tx, circuit, head, now).await,
        };
    }
    circuit.head = turns::oldest(tx, circuit, now).await?;
    Ok(circuit.head)
}
