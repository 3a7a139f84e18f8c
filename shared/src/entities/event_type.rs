//! `event_types`: the kinds of event that a tenant publishes. Those of [`TenantId::OWN`] are shared by all tenants.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    ids::{EventTypeId, TenantId},
};

/// One event type.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_types")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventTypeId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Its name, one per tenant: `invoice.paid`.
    pub name: String,
    /// What it means.
    pub description: Option<String>,
    /// JSON Schema of its payload.
    pub schema: Option<Json>,
    /// Counts the changes of the schema: what was compiled from an earlier one is not used any more.
    pub schema_version: i32,
    /// When it was created.
    pub created_at: Timestamp,
    /// From when on nothing of this type can be published.
    pub archived_at: Option<Timestamp>,
}

impl Entity {
    /// A tenant's own event types, archived ones included.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
