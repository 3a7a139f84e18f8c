//! `message_payloads`: the payload of each message, byte for byte, apart from the message's row, because it is kept for a
//! shorter time.

use sea_orm::entity::prelude::*;

use crate::ids::MessageId;

/// One payload.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "message_payloads")]
pub struct Model {
    /// The message that it belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: MessageId,
    /// The exact bytes that were published and that go out.
    #[sea_orm(column_type = "VarBinary(StringLen::None)")]
    pub payload: Vec<u8>,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
