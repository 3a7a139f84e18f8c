//! The attempts to deliver one delivery.

use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, QueryFilter as _, QueryOrder as _};

use crate::{
    db::{Bounds, Slice},
    ids::{DeliveryId, TenantId},
    store::schema::attempt::{Column, Entity, Model},
};

/// A page of the attempts of a tenant's delivery, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    delivery: DeliveryId,
    page: Bounds,
) -> Result<Slice<Model>, DbErr> {
    let attempts = Entity::of_tenant(tenant).filter(Column::DeliveryId.eq(delivery));
    page.load(db, attempts, Column::Id, |row: &Model| row.id.uuid())
        .await
}

/// All attempts of a tenant's delivery, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn all(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    delivery: DeliveryId,
) -> Result<Vec<Model>, DbErr> {
    Entity::of_tenant(tenant)
        .filter(Column::DeliveryId.eq(delivery))
        .order_by_asc(Column::Number)
        .all(db)
        .await
}
