//! Deliveries, whatever their status.

use std::{collections::HashMap, hash::Hash};

use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, QueryFilter as _, QueryOrder as _,
    sea_query::SimpleExpr,
};

use crate::{
    db::{Bounds, Slice},
    delivery::{ParkedReason, Status},
    ids::{DeliveryId, EmailId, EndpointId, MessageId, TenantId},
    replay::Filter,
    store::{
        park,
        schema::delivery::{Column, Entity, Model},
    },
};

/// The deliveries that a list shows: those that fit everything given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The criteria that dead letters are selected by as well.
    pub filter: Filter,
    /// An endpoint that they go to, beside the one of the filter.
    pub endpoint_id: Option<EndpointId>,
    /// The status that they have.
    pub status: Option<Status>,
    /// The reason why they are parked.
    pub parked: Option<ParkedReason>,
}

impl Wanted {
    fn condition(&self) -> Condition {
        self.filter
            .condition()
            .add_option(self.endpoint_id.map(|id| Column::EndpointId.eq(id)))
            .add_option(self.status.map(|status| match status {
                // What is dead has an index; no index names the status.
                Status::Dead => Column::DeadAt.is_not_null(),
                status => Column::Status.eq(status),
            }))
            .add_option(self.parked.map(park::is_parked))
    }
}

/// A page of a tenant's deliveries.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    wanted: &Wanted,
    page: Bounds,
) -> Result<Slice<Model>, DbErr> {
    let deliveries = Entity::of_tenant(tenant).filter(wanted.condition());
    page.load(db, deliveries, Column::Id, |row: &Model| row.id.uuid())
        .await
}

/// A tenant's delivery.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<Option<Model>, DbErr> {
    Entity::of_tenant(tenant)
        .filter(Column::Id.eq(id))
        .one(db)
        .await
}

/// The deliveries of these messages, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn of_messages(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    ids: impl IntoIterator<Item = MessageId>,
) -> Result<Vec<Model>, DbErr> {
    all(db, tenant, Column::MessageId.is_in(ids)).await
}

/// The deliveries of these emails, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn of_emails(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    ids: impl IntoIterator<Item = EmailId>,
) -> Result<Vec<Model>, DbErr> {
    all(db, tenant, Column::EmailId.is_in(ids)).await
}

/// Puts `deliveries` beside the rows of a page that they belong to: `of` returns the id of that row.
pub(super) fn group<T, I: Eq + Hash>(
    page: Slice<T>,
    deliveries: Vec<Model>,
    id: impl Fn(&T) -> I,
    of: impl Fn(&Model) -> Option<I>,
) -> Slice<(T, Vec<Model>)> {
    let mut groups: HashMap<I, Vec<Model>> = HashMap::new();
    for delivery in deliveries {
        if let Some(id) = of(&delivery) {
            groups.entry(id).or_default().push(delivery);
        }
    }
    page.map(|row| {
        let its = groups.remove(&id(&row)).unwrap_or_default();
        (row, its)
    })
}

/// A tenant's deliveries that fit `of`, oldest first.
pub(in crate::store) async fn all(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    of: SimpleExpr,
) -> Result<Vec<Model>, DbErr> {
    Entity::of_tenant(tenant)
        .filter(of)
        .order_by_asc(Column::Id)
        .all(db)
        .await
}
