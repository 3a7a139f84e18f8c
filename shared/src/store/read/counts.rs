//! Counts over a bounded number of a tenant's rows.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, QueryFilter as _, QuerySelect as _, Statement, Value,
};

use crate::{
    clock::Timestamp,
    delivery::{DeliveryKind, Status},
    ids::{DeliveryId, TenantId},
    store::schema::delivery::{Column, Entity},
};

/// The number of deliveries accepted since then, by the status that they have now.
///
/// # Errors
/// When the database fails.
pub async fn accepted_since(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    since: Timestamp,
) -> Result<Vec<(Status, i64)>, DbErr> {
    Entity::of_tenant(tenant)
        // By the time in their ids, which the index of the tenant's deliveries is ordered by.
        .filter(Column::Id.gte(DeliveryId::floor(since)))
        .select_only()
        .column(Column::Status)
        .column_as(Column::Id.count(), "count")
        .group_by(Column::Status)
        .into_tuple()
        .all(db)
        .await
}

/// The number of deliveries that are parked, counted up to `limit`.
///
/// # Errors
/// When the database fails.
pub async fn parked(db: &impl ConnectionTrait, tenant: TenantId, limit: i64) -> Result<i64, DbErr> {
    let sql = "SELECT COUNT(*) AS count FROM (SELECT d.id FROM circuits c \
         JOIN deliveries d ON d.parked_for = c.id WHERE c.tenant_id = $1 LIMIT $2) parked";
    count(db, sql, [tenant.into(), limit.into()]).await
}

/// The number of dead letters of one kind, counted up to `limit`.
///
/// # Errors
/// When the database fails.
pub async fn dead_letters(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    kind: DeliveryKind,
    limit: i64,
) -> Result<i64, DbErr> {
    let sql = "SELECT COUNT(*) AS count FROM (SELECT id FROM deliveries \
         WHERE tenant_id = $1 AND dead_at IS NOT NULL AND kind = $2 LIMIT $3) dead";
    let params = [tenant.into(), kind.as_str().into(), limit.into()];
    count(db, sql, params).await
}

async fn count<const N: usize>(
    db: &impl ConnectionTrait,
    sql: &str,
    params: [Value; N],
) -> Result<i64, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, params);
    let row = db.query_one_raw(statement).await?;
    row.map_or(Ok(0), |row| row.try_get("", "count"))
}
