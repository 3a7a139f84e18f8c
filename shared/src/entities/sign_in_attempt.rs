//! `sign_in_attempts`: failed sign-ins by address, known or unknown alike, and the lock that follows.

use sea_orm::entity::prelude::*;

use crate::clock::Timestamp;

/// The failures of one address.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_in_attempts")]
pub struct Model {
    /// SHA-256 of the address in lower case.
    #[sea_orm(primary_key, auto_increment = false)]
    pub address_hash: Vec<u8>,
    /// How many failed since `window_started_at`.
    pub failures: i32,
    /// When the first of them failed.
    pub window_started_at: Timestamp,
    /// Until when no sign-in is taken.
    pub locked_until: Option<Timestamp>,
    /// From when on the row means nothing.
    pub expires_at: Timestamp,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
