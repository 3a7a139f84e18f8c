//! `users`: people who sign in.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, ids::UserId};

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    /// Their id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UserId,
    /// Their address, in lower case; one user has it.
    pub email: String,
    /// What people call them.
    pub name: Option<String>,
    /// Argon2id of the password, as a PHC string with its parameters; none: they sign in through a provider.
    pub password_hash: Option<String>,
    /// Whether they may do everything, of every tenant.
    pub platform: bool,
    /// When they showed that the address is theirs.
    pub email_verified_at: Option<Timestamp>,
    /// Since when they may not sign in.
    pub disabled_at: Option<Timestamp>,
    /// When they last signed in.
    pub last_signed_in_at: Option<Timestamp>,
    /// When they were created.
    pub created_at: Timestamp,
    /// When they were last changed.
    pub updated_at: Timestamp,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
