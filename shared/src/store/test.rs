//! The test of an endpoint: a message to one endpoint, whatever that one wants, which is forgotten once it was tried.
//!
//! Guarantee: a delivery that was ended here is never tried again and is no dead letter. On a kill before that, it goes on
//! like any other delivery.
//!
//! Transitions: `discarded` and `cancelled`, from `dead` and from `pending` to `discarded`.

use sea_orm::{ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, sea_query::Expr};

use super::{
    Attempt,
    schema::{attempt, delivery},
};
use crate::{
    clock::Timestamp,
    db::Database,
    delivery::Status,
    ids::{DeliveryId, TenantId},
};

/// The attempt of a test, if a worker has made it.
///
/// # Errors
/// When the database fails.
pub async fn attempt(
    db: &Database,
    tenant: TenantId,
    delivery: DeliveryId,
) -> Result<Option<Attempt>, DbErr> {
    attempt::Entity::of_tenant(tenant)
        .filter(attempt::Column::DeliveryId.eq(delivery))
        .one(db)
        .await
}

/// Ends a test. One that failed is no dead letter, because nobody is going to replay it; one that was not tried is not tried
/// later. One that was delivered stays as it is.
///
/// # Errors
/// When the database fails.
pub async fn end(db: &Database, id: DeliveryId) -> Result<(), DbErr> {
    use delivery::Column;
    delivery::Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Discarded))
        .col_expr(Column::DeadAt, Expr::value(Option::<Timestamp>::None))
        .col_expr(Column::DispatchAt, Expr::value(Option::<Timestamp>::None))
        .filter(Column::Id.eq(id))
        .filter(Column::Status.is_in([Status::Dead, Status::Pending]))
        .exec(db)
        .await
        .map(|_| ())
}
