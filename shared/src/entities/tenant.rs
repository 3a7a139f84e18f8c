//! `tenants`: who owns endpoints, messages and emails.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, delivery::EmailOnUncertain, ids::TenantId};

/// The class of a tenant that has no other.
pub const STANDARD: &str = "standard";

/// One tenant.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TenantId,
    /// The id that the platform's own product knows it by; no two tenants have the same.
    pub external_id: Option<String>,
    /// What people call it.
    pub name: String,
    /// The class of service. Every tenant is [`STANDARD`] so far.
    pub class: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its operators were told that its dead-letter queue is over the threshold; none while it is not.
    pub dlq_warned_at: Option<Timestamp>,
    /// Whether its mails are sent again when the mail server may have accepted them.
    pub email_on_uncertain: EmailOnUncertain,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl Entity {
    /// The tenant with this external id.
    pub fn by_external_id(external_id: &str) -> Select<Self> {
        Self::find().filter(Column::ExternalId.eq(external_id))
    }
}

impl ActiveModelBehavior for ActiveModel {}
