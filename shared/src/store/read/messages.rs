//! Messages with their deliveries.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryTrait as _,
};

use super::deliveries;
use crate::{
    db::{Bounds, Slice},
    ids::{MessageId, TenantId},
    store::{
        Delivery,
        schema::{
            message::{Column, Entity, Model},
            payload,
        },
    },
};

/// A page of a tenant's messages, of one event type or of all, each with its deliveries, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    event_type: Option<String>,
    page: Bounds,
) -> Result<Slice<(Model, Vec<Delivery>)>, DbErr> {
    let messages = Entity::of_tenant(tenant).apply_if(event_type, |list, name| {
        list.filter(Column::EventType.eq(name))
    });
    let page = page.load(db, messages, Column::Id, |row: &Model| row.id.uuid());
    let page = page.await?;
    let ids = page.rows.iter().map(|row| row.id);
    let its = deliveries::of_messages(db, tenant, ids).await?;
    Ok(deliveries::group(
        page,
        its,
        |row| row.id,
        |delivery| delivery.message_id,
    ))
}

/// A tenant's message.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: MessageId,
) -> Result<Option<Model>, DbErr> {
    Entity::of_tenant(tenant)
        .filter(Column::Id.eq(id))
        .one(db)
        .await
}

/// The payload of a message that the caller has found; none when it is not kept any more.
///
/// # Errors
/// When the database fails.
pub async fn payload(db: &impl ConnectionTrait, id: MessageId) -> Result<Option<Vec<u8>>, DbErr> {
    let found = payload::Entity::find_by_id(id).one(db).await?;
    Ok(found.map(|row| row.payload))
}
