//! `refresh_tokens`: the refresh tokens of sessions, used ones too: one that comes twice is told from one that never was.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    ids::{SessionId, TokenId},
};

/// One refresh token.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "refresh_tokens")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TokenId,
    /// The session that it prolongs.
    pub session_id: SessionId,
    /// SHA-256 of the token.
    pub token_hash: Vec<u8>,
    /// When it was given out.
    pub created_at: Timestamp,
    /// When it was exchanged for the next.
    pub used_at: Option<Timestamp>,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
