//! `emails`: mails as they were handed in, without their texts, which are kept for a shorter time (`email_bodies`). Each
//! recipient's copy is a delivery.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    entities::{Pairs, Texts},
    ids::{EmailId, TenantId},
};

/// One email.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "emails")]
pub struct Model {
    /// Its id, which is also in its `Message-ID`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EmailId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The sender as it stands in `From`.
    pub sender: String,
    /// The addresses in `To`.
    pub to_recipients: Texts,
    /// The addresses in `Cc`.
    pub cc_recipients: Texts,
    /// The addresses that get it without being named in it.
    pub bcc_recipients: Texts,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// Its subject.
    #[sea_orm(column_type = "Text")]
    pub subject: String,
    /// Headers of the sender's own.
    pub headers: Pairs,
    /// Words to find it by.
    pub tags: Texts,
    /// The id of the request that handed it in.
    pub request_id: String,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// The earliest time of its first attempts, if the sender named one.
    pub send_at: Option<Timestamp>,
}

impl Entity {
    /// A tenant's emails.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
