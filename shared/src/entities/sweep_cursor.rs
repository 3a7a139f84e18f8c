//! `sweep_cursors`: how far the search for lost jobs has come: everything below is known to be settled.

use sea_orm::entity::prelude::*;

use crate::{clock::Timestamp, ids::DeliveryId};

/// One cursor.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sweep_cursors")]
pub struct Model {
    /// The sweep it belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// No delivery below this id waits for its first job.
    pub floor: DeliveryId,
    /// When it was last moved.
    pub updated_at: Timestamp,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
