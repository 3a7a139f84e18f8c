//! Replay jobs and how far they are, without their selections, which can be long.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, DerivePartialModel, PartialModelTrait as _,
    QueryFilter as _, QuerySelect as _, Select,
};

use crate::{
    clock::Timestamp,
    db::{Bounds, Slice},
    delivery::{ReplayKind, ReplayStatus},
    ids::{ReplayId, TenantId},
    store::schema::replay::{Column, Entity, Model},
};

/// One job, as people see it: columns of [`Model`].
#[derive(Clone, Debug, PartialEq, Eq, DerivePartialModel)]
#[sea_orm(entity = "Entity")]
pub struct Progress {
    /// Its id.
    pub id: ReplayId,
    /// What it does.
    pub kind: ReplayKind,
    /// Where it stands.
    pub status: ReplayStatus,
    /// The number of deliveries that it releases a second; none: as many as the workers take.
    pub rate_per_s: Option<i32>,
    /// The number of deliveries that it selected.
    pub total: i32,
    /// The number of deliveries that it has released, or discarded.
    pub released: i32,
    /// The number of selected deliveries that it has left alone.
    pub skipped: i32,
    /// The number of released deliveries that were delivered.
    pub delivered: i32,
    /// The number of released deliveries that died again.
    pub dead: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was completed or cancelled.
    pub finished_at: Option<Timestamp>,
}

impl From<&Model> for Progress {
    fn from(row: &Model) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            status: row.status,
            rate_per_s: row.rate_per_s,
            total: row.total,
            released: row.released,
            skipped: row.skipped,
            delivered: row.delivered,
            dead: row.dead,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

/// A page of a tenant's jobs.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    page: Bounds,
) -> Result<Slice<Progress>, DbErr> {
    page.load(db, of(tenant), Column::Id, |row: &Progress| row.id.uuid())
        .await
}

/// A tenant's job.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: ReplayId,
) -> Result<Option<Progress>, DbErr> {
    of(tenant)
        .filter(Column::Id.eq(id))
        .into_model()
        .one(db)
        .await
}

fn of(tenant: TenantId) -> Select<Entity> {
    Progress::select_cols(Entity::of_tenant(tenant).select_only())
}
