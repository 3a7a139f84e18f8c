//! `replays`: jobs that replay or discard many dead letters, or recover what an endpoint has missed.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    delivery::{ReplayKind, ReplayStatus},
    ids::{DeliveryId, MessageId, ReplayId, TenantId},
    replay::Selection,
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
    /// What it selects.
    pub selection: Selection,
    /// How many it releases a second; none: as many as the workers take.
    pub rate_per_s: Option<i32>,
    /// How many it selected when it was made; a `recover` job adds the missed messages that it comes across.
    pub total: i32,
    /// How many it has released, or discarded.
    pub released: i32,
    /// How many of those selected it did not release in the end, because they were no dead letters any more. 0 until
    /// it has looked at all of them.
    pub skipped: i32,
    /// How many of the released were delivered.
    pub delivered: i32,
    /// How many of the released died again.
    pub dead: i32,
    /// The last dead letter that it has looked at; it goes from the oldest to the newest.
    pub cursor: Option<DeliveryId>,
    /// The last message that a `recover` job has looked at; none while it is still busy with dead letters.
    pub message_cursor: Option<MessageId>,
    /// Since when its pace is measured.
    pub paced_from: Timestamp,
    /// How many it had released by then.
    pub paced_count: i32,
    /// When its next step is due; none when it releases nothing more.
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

impl Entity {
    /// A tenant's jobs.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
