//! Emails with their deliveries.

use sea_orm::{ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _};

use super::deliveries;
use crate::{
    db::{Bounds, Slice},
    ids::{EmailId, TenantId},
    store::{
        Delivery, EmailBody,
        schema::{
            email::{Column, Entity, Model},
            email_body,
        },
    },
};

/// A page of a tenant's emails, each with its deliveries, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    page: Bounds,
) -> Result<Slice<(Model, Vec<Delivery>)>, DbErr> {
    let page = page.load(db, Entity::of_tenant(tenant), Column::Id, |row: &Model| {
        row.id.uuid()
    });
    let page = page.await?;
    let ids = page.rows.iter().map(|row| row.id);
    let its = deliveries::of_emails(db, tenant, ids).await?;
    Ok(deliveries::group(
        page,
        its,
        |row| row.id,
        |delivery| delivery.email_id,
    ))
}

/// A tenant's email.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: EmailId,
) -> Result<Option<Model>, DbErr> {
    Entity::of_tenant(tenant)
        .filter(Column::Id.eq(id))
        .one(db)
        .await
}

/// The texts of an email that the caller has found; none when they are not kept any more.
///
/// # Errors
/// When the database fails.
pub async fn body(db: &impl ConnectionTrait, id: EmailId) -> Result<Option<EmailBody>, DbErr> {
    email_body::Entity::find_by_id(id).one(db).await
}
