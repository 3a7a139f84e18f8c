//! `attempts`: every try to deliver, with what came of it.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    delivery::{AttemptOutcome, ErrorClass},
    ids::{AttemptId, DeliveryId, TenantId},
};

/// One attempt. Its key is the delivery and the number, so that no attempt can be recorded twice.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub struct Model {
    /// The delivery it belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: DeliveryId,
    /// 1 for the first.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    /// Its id.
    pub id: AttemptId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: i32,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why it failed.
    pub error_class: Option<ErrorClass>,
    /// The receiver's status code: HTTP for a webhook, SMTP for an email.
    pub http_status: Option<i32>,
    /// The beginning of the receiver's answer, or what went wrong in words.
    #[sea_orm(column_type = "Text", nullable)]
    pub response_snippet: Option<String>,
    /// The id of the request that made the delivery.
    pub request_id: String,
}

impl Entity {
    /// A tenant's attempts.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
