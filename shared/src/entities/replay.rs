//! `replays`: jobs that replay or discard many dead letters at a pace.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    delivery::{ReplayKind, ReplayStatus},
    ids::{DeliveryId, ReplayId, TenantId},
};

/// One replay job.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "replays")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReplayId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What it does.
    pub kind: ReplayKind,
    /// Where it stands.
    pub status: ReplayStatus,
    /// What it selects: ids, or a filter, as the API took it.
    pub selection: Json,
    /// How many it releases a second; none: as many as the workers take.
    pub rate_per_s: Option<i32>,
    /// How many it selected when it was made.
    pub total: i32,
    /// How many it has released, or discarded.
    pub released: i32,
    /// How many turned out to be dead no longer.
    pub skipped: i32,
    /// How many of the released were delivered.
    pub delivered: i32,
    /// How many of the released died again.
    pub dead: i32,
    /// Up to where it has come: the walk goes from new to old.
    pub cursor: Option<DeliveryId>,
    /// What died or was accepted later is none of its business.
    pub until_id: Option<DeliveryId>,
    /// When its next step is due; none when it has released everything.
    pub next_at: Option<Timestamp>,
    /// Who made it: the id of an API key, or `platform`.
    pub actor: String,
    /// The request that made it.
    pub request_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was completed or cancelled.
    pub finished_at: Option<Timestamp>,
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
