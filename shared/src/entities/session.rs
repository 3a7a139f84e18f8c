//! `sessions`: what begins with a sign-in: a family of refresh tokens that ends as one.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    ids::{SessionId, UserId},
    people::{SessionEnd, SignInMethod},
};

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    /// Its id, which stands in its access tokens.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// How they signed in.
    pub method: SignInMethod,
    /// The address from which they signed in.
    pub client_address: Option<String>,
    /// What their browser calls itself.
    pub user_agent: Option<String>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// When it ended before its time.
    pub ended_at: Option<Timestamp>,
    /// Why.
    pub ended_reason: Option<SessionEnd>,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
