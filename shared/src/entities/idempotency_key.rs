//! `idempotency_keys`: answers to repeat when a request comes again with the same `Idempotency-Key`.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, ids::TenantId};

/// One key with the answer that it stands for. Written in the transaction that it protects.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
pub struct Model {
    /// Whose it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: TenantId,
    /// The operation and the key as it was sent: `POST /v1/messages order-42`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// SHA-256 of the request body.
    pub fingerprint: Vec<u8>,
    /// Whether `response` is sealed ([`crate::secrets`]), because the answer holds a secret.
    pub sealed: bool,
    /// The body of the first answer.
    #[sea_orm(column_type = "VarBinary(StringLen::None)")]
    pub response: Vec<u8>,
    /// When it was first used.
    pub created_at: Timestamp,
    /// From when on it is forgotten.
    pub expires_at: Timestamp,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
