//! `api_keys`: what programs sign in with. Only a hash of the secret part is stored.

use sea_orm::entity::prelude::*;

use super::Texts;
use crate::{
    clock::Timestamp,
    ids::{KeyId, TenantId},
};

/// One API key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_keys")]
pub struct Model {
    /// Its id, which is also the first part of the key itself.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: KeyId,
    /// Whose key it is; none for a platform key.
    pub tenant_id: Option<TenantId>,
    /// What people call it.
    pub name: String,
    /// The beginning of the key, to recognise it by.
    pub prefix: String,
    /// SHA-256 of the secret part. The secret is random and long, so that a slow hash would add nothing.
    pub secret_hash: Vec<u8>,
    /// What it may do.
    pub scopes: Texts,
    /// When it was created.
    pub created_at: Timestamp,
    /// From when on it is refused, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl Entity {
    /// A tenant's keys.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }

    /// The platform's keys.
    pub fn of_platform() -> Select<Self> {
        Self::find().filter(Column::TenantId.is_null())
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
