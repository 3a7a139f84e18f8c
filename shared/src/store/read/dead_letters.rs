//! The dead-letter queue: deliveries that were given up, until somebody replays or discards them.

use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, QueryFilter as _, Select};

use crate::{
    db::{Bounds, Slice},
    delivery::DeliveryKind,
    ids::{DeliveryId, TenantId},
    replay::Filter,
    store::schema::delivery::{Column, Entity, Model},
};

/// A page of a tenant's dead letters of one kind that fit `filter`.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    kind: DeliveryKind,
    filter: &Filter,
    page: Bounds,
) -> Result<Slice<Model>, DbErr> {
    let dead = of(tenant, kind).filter(filter.condition());
    page.load(db, dead, Column::Id, |row: &Model| row.id.uuid())
        .await
}

/// A tenant's dead letter. None when there is no such delivery, or it is of the other kind, or not dead.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    kind: DeliveryKind,
    id: DeliveryId,
) -> Result<Option<Model>, DbErr> {
    let found = of(tenant, kind).filter(Column::Id.eq(id));
    found.one(db).await
}

fn of(tenant: TenantId, kind: DeliveryKind) -> Select<Entity> {
    Entity::dead_of_tenant(tenant).filter(Column::Kind.eq(kind))
}
