//! `messages`: what was published, without the payload, which is kept for a shorter time (`message_payloads`).

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    entities::Texts,
    ids::{MessageId, TenantId},
};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "messages")]
pub struct Model {
    /// Its id, which is the `webhook-id` of every request.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MessageId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What kind of event it is.
    pub event_type: String,
    /// The channels that narrow down which endpoints get it.
    pub channels: Texts,
    /// Notes of the sender, which are shown and never sent.
    pub metadata: Option<Json>,
    /// The messages that have to stay in order with it; none: no order. Not used yet.
    pub ordering_key: Option<String>,
    /// The id of the request that published it.
    pub request_id: String,
    /// The W3C trace context of the request that published it. Not used yet.
    pub traceparent: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The earliest time of its first attempts, if the sender named one.
    pub deliver_at: Option<Timestamp>,
    /// When it is too late to deliver it, if the sender said so. What counts is the copy in each of its deliveries.
    pub expires_at: Option<Timestamp>,
    /// When its sender took it back.
    pub cancelled_at: Option<Timestamp>,
}

impl Entity {
    /// A tenant's messages.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
