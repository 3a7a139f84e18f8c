//! One delivery that somebody wants tried again, or sooner.
//!
//! Transition: `dead --> pending: replayed`. A pending delivery that waits for a later time becomes due and stays pending.
//! When the caller has committed, the dispatcher finds the delivery and puts it on the queue, whatever is killed. Of
//! several callers at the same moment one changes the delivery; the others find it changed.

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    sea_query::Expr,
};

use super::{
    Delivery, read,
    schema::delivery::{Column, Entity},
};
use crate::{
    clock::Timestamp,
    db::Transaction,
    delivery::{DeliveryKind, Status},
    ids::{DeliveryId, TenantId},
    replay::reviving,
};

/// A delivery after a retry was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retried {
    /// The delivery as it is now. Unless it is pending, it cannot be retried.
    pub delivery: Delivery,
    /// The change that was made, if any.
    pub change: Option<Change>,
}

/// A change that makes a delivery due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was dead and is pending again, with a whole retry schedule.
    Replayed,
    /// It waited for a later time and is due now.
    MadeDue,
}

/// Replays a delivery that is dead, makes one due that waits for a later time, and leaves any other as it is. None when the
/// tenant has no such delivery.
///
/// # Errors
/// When the database fails.
pub async fn delivery(
    tx: &Transaction,
    tenant: TenantId,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Option<Retried>, DbErr> {
    let addressed = addressed(tenant, id);
    let change = if revive(tx, addressed.clone(), now).await? {
        Some(Change::Replayed)
    } else if make_due(tx, addressed, now).await? {
        Some(Change::MadeDue)
    } else {
        None
    };
    let found = read::deliveries::find(tx, tenant, id).await?;
    Ok(found.map(|delivery| Retried { delivery, change }))
}

/// Replays a dead letter of one kind. A delivery that waits because it was just replayed is returned without a change, so
/// that a request that is sent twice replays once. None when there is no such delivery.
///
/// # Errors
/// When the database fails.
pub async fn dead_letter(
    tx: &Transaction,
    tenant: TenantId,
    kind: DeliveryKind,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Option<Retried>, DbErr> {
    let addressed = addressed(tenant, id).add(Column::Kind.eq(kind));
    let revived = revive(tx, addressed.clone(), now).await?;
    let change = revived.then_some(Change::Replayed);
    let replayed = Entity::find()
        .filter(addressed)
        .filter(Column::Status.eq(Status::Pending))
        .filter(Column::ReplayedAt.is_not_null())
        .one(tx)
        .await?;
    Ok(replayed.map(|delivery| Retried { delivery, change }))
}

fn addressed(tenant: TenantId, id: DeliveryId) -> Condition {
    Condition::all()
        .add(Column::TenantId.eq(tenant))
        .add(Column::Id.eq(id))
}

async fn revive(
    tx: &impl ConnectionTrait,
    addressed: Condition,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let revived = reviving(now, None).filter(addressed).exec(tx).await?;
    Ok(revived.rows_affected > 0)
}

async fn make_due(
    tx: &impl ConnectionTrait,
    addressed: Condition,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let changed = Entity::update_many()
        .col_expr(
            Column::NextAttemptAt,
            Expr::value(Option::<Timestamp>::None),
        )
        .col_expr(Column::DispatchAt, Expr::value(now))
        .filter(addressed)
        .filter(Column::Status.eq(Status::Pending))
        .filter(Column::NextAttemptAt.gt(now))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected > 0)
}
