//! `tenants`: who owns endpoints, messages and emails.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, delivery::EmailOnUncertain, ids::TenantId};

/// One tenant.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TenantId,
    /// What people call it.
    pub name: String,
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

impl ActiveModelBehavior for ActiveModel {}
