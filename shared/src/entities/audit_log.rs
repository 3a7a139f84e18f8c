//! `audit_log`: who did what to what, written in the transaction that does it.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    ids::{AuditEntryId, TenantId},
};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_log")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditEntryId,
    /// Whose thing it was done to; none for a thing of the platform.
    pub tenant_id: Option<TenantId>,
    /// Who did it: the id of an API key or of a user, or `platform` for the key of the settings.
    pub actor: String,
    /// What was done: `dead_letter.replayed`.
    pub action: String,
    /// The id of what it was done to.
    pub target: String,
    /// The id of the request that did it.
    pub request_id: String,
    /// The client address of that request; none for what was done beside it.
    pub client_address: Option<String>,
    /// What exactly, where that is not in the row of the target: `role=viewer`.
    pub detail: Option<String>,
    /// When it was done.
    pub created_at: Timestamp,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
