//! Holds deliveries back.
//!
//! Guarantee: what is parked waits for its circuit with one write, however long that takes: neither the dispatcher nor the
//! sweep looks at it, and it uses up no attempt. The transaction holds the circuit's lock, so that nothing is parked behind a
//! circuit that has just let everything go. A process that is killed before the commit leaves the delivery with its job.
//!
//! `parked_for` alone says whether a delivery is parked. `parked_reason` and `parked_at` tell of the last time that it was, and
//! nothing clears them, so that no other statement has to name them.
//!
//! Transition: `parked` (pending → pending).

use sea_orm::{
    ColumnTrait as _, Condition, DbErr, EntityTrait as _, QueryFilter as _,
    sea_query::{CaseStatement, Expr},
};
use uuid::Uuid;

use super::schema::delivery::{Column, Entity};
use crate::{
    clock::Timestamp,
    db::Transaction,
    delivery::{ParkedReason, Status},
    ids::DeliveryId,
};

/// Parks those of these deliveries that are pending, until `circuit` releases them. The circuit is locked. A delivery that is
/// parked already gets the new reason and keeps the time since when it is parked.
///
/// # Errors
/// When the database fails.
pub async fn park(
    tx: &Transaction,
    circuit: Uuid,
    reason: ParkedReason,
    deliveries: &[DeliveryId],
    now: Timestamp,
) -> Result<(), DbErr> {
    let since = CaseStatement::new()
        .case(Column::ParkedFor.is_null(), Expr::value(now))
        .finally(Expr::col(Column::ParkedAt));
    Entity::update_many()
        .col_expr(Column::ParkedFor, Expr::value(circuit))
        .col_expr(Column::ParkedReason, Expr::value(reason))
        .col_expr(Column::ParkedAt, since.into())
        .col_expr(Column::DispatchAt, Expr::value(Option::<Timestamp>::None))
        .filter(Column::Id.is_in(deliveries.iter().copied()))
        .filter(Column::Status.eq(Status::Pending))
        .exec(tx)
        .await?;
    for delivery in deliveries {
        tracing::debug!(%delivery, reason = reason.as_str(), %circuit, "delivery parked");
    }
    Ok(())
}

/// The condition on a row of `deliveries` that it is parked for this reason.
pub(super) fn is_parked(reason: ParkedReason) -> Condition {
    Condition::all()
        .add(Column::Status.eq(Status::Pending))
        .add(Column::ParkedFor.is_not_null())
        .add(Column::ParkedReason.eq(reason))
}
