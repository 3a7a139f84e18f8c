//! `identities`: who a user is to an OAuth provider.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, ids::UserId};

/// One account at a provider.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "identities")]
pub struct Model {
    /// The provider: an OpenID Connect issuer, or `https://github.com`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub issuer: String,
    /// The account's id there, which never changes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: String,
    /// Whose account it is.
    pub user_id: UserId,
    /// The verified address that it had when it was linked.
    pub email: String,
    /// When it was linked.
    pub created_at: Timestamp,
    /// When it was last signed in with.
    pub last_used_at: Timestamp,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
