//! `endpoint_secrets`: the signing secrets of endpoints. After a rotation two are valid for a while.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    ids::{EndpointId, SecretId, TenantId},
    secrets::{Keyring, OpenError, Place},
};

/// One signing secret.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "endpoint_secrets")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SecretId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The endpoint it signs for.
    pub endpoint_id: EndpointId,
    /// `whsec_…` of HMAC, or `whsk_…`, the key pair of ed25519; sealed ([`crate::secrets`]).
    pub secret: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// From when on it signs no more; none for the newest.
    pub expires_at: Option<Timestamp>,
}

impl Model {
    /// The secret itself.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be opened.
    pub fn open(&self, keys: &Keyring) -> Result<String, OpenError> {
        keys.open_text(Place::endpoint_secret(self.id), &self.secret)
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
