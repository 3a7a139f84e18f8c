//! Circuits as they stand, without their locks. An endpoint or a mail provider without a row has a closed circuit.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _, QueryTrait as _,
};
use uuid::Uuid;

use crate::{
    delivery::{CircuitState, EndpointStatus},
    entities::endpoint,
    ids::TenantId,
    store::schema::circuit::{Column, Entity, Model},
};

/// The circuits with these ids that have a row, by id.
///
/// # Errors
/// When the database fails.
pub async fn of(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Model>, DbErr> {
    let rows = Entity::find().filter(Column::Id.is_in(ids)).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// The circuits of a tenant's endpoints that are not closed, at most `limit`; those opened last come first. Endpoints that
/// are deleted or disabled are left out, because nothing is sent through their circuits.
///
/// # Errors
/// When the database fails.
pub async fn not_closed(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let endpoints = endpoint::Entity::of_tenant(tenant)
        .filter(endpoint::Column::Status.ne(EndpointStatus::Disabled))
        .select_only()
        .column(endpoint::Column::Id)
        .into_query();
    Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::State.ne(CircuitState::Closed))
        .filter(Column::Id.in_subquery(endpoints))
        .order_by_desc(Column::OpenedAt)
        .limit(limit)
        .all(db)
        .await
}
