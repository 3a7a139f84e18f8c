//! `oauth_states`: sign-ins through a provider that have begun. Taken out by the callback that ends them.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    ids::{OauthStateId, UserId},
    people::SignInMethod,
};

/// One sign-in on its way.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "oauth_states")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: OauthStateId,
    /// SHA-256 of the `state` that the provider brings back.
    pub state_hash: Vec<u8>,
    /// SHA-256 of the cookie that ties it to the browser.
    pub browser_hash: Option<Vec<u8>>,
    /// The provider.
    pub provider: SignInMethod,
    /// The PKCE verifier and the nonce as JSON, sealed ([`crate::secrets`]).
    pub secrets: String,
    /// The path to return to afterwards.
    pub return_to: Option<String>,
    /// The user who links an account, if one was signed in.
    pub user_id: Option<UserId>,
    /// When it began.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
