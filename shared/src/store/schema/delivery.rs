//! `deliveries`: the work: one row for each message to each endpoint and each email to each recipient.

use sea_orm::entity::prelude::*;

use crate::{
    clock::Timestamp,
    delivery::{DeliveryKind, ErrorClass, ParkedReason, Reason, Status},
    ids::{DeliveryId, EmailId, EndpointId, MessageId, ReplayId, TenantId},
};

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deliveries")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What is delivered.
    pub kind: DeliveryKind,
    /// The message, if it is a webhook.
    pub message_id: Option<MessageId>,
    /// Where it goes, if it is a webhook.
    pub endpoint_id: Option<EndpointId>,
    /// The email, if it is one.
    pub email_id: Option<EmailId>,
    /// Where it goes, if it is an email.
    pub recipient: Option<String>,
    /// Where it stands.
    pub status: Status,
    /// How many attempts have ended.
    pub attempt_count: i32,
    /// When the next attempt is due; none when it is due now or never.
    pub next_attempt_at: Option<Timestamp>,
    /// When the dispatcher looks at it. None while its first job is on the queue, and when it is done: the index on
    /// this column then holds only what waits, and a delivery that succeeds at once never enters it.
    pub dispatch_at: Option<Timestamp>,
    /// Why it is dead.
    pub reason: Option<Reason>,
    /// Why the last attempt failed.
    pub error_class: Option<ErrorClass>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it was delivered or died.
    pub finished_at: Option<Timestamp>,
    /// When it died, while it is in the dead-letter queue; none otherwise. The queue's index is on what has it, so
    /// that no index needs to name the status.
    pub dead_at: Option<Timestamp>,
    /// When it was last replayed. From then on its jobs travel in the lane of bulk work.
    pub replayed_at: Option<Timestamp>,
    /// How many attempts had ended when it was last replayed: its retry schedule begins behind them.
    pub schedule_start: i32,
    /// The circuit that it waits for: that of its endpoint, or of a mail provider. None when it does not wait for one.
    pub parked_for: Option<Uuid>,
    /// Why it was parked, the last time that it was. Nothing clears it: `parked_for` says whether it is parked now.
    pub parked_reason: Option<ParkedReason>,
    /// When it was parked, the last time that it was.
    pub parked_at: Option<Timestamp>,
    /// When it is too late to deliver it.
    pub expires_at: Option<Timestamp>,
    /// The replay job that replayed it last, whose progress counts its end.
    pub replay_id: Option<ReplayId>,
}

impl Model {
    /// A delivery as it begins: due now, never tried. The caller says what is delivered where to.
    pub fn pending(id: DeliveryId, kind: DeliveryKind, tenant: TenantId, now: Timestamp) -> Self {
        Self {
            id,
            tenant_id: tenant,
            kind,
            message_id: None,
            endpoint_id: None,
            email_id: None,
            recipient: None,
            status: Status::Pending,
            attempt_count: 0,
            next_attempt_at: None,
            dispatch_at: None,
            reason: None,
            error_class: None,
            created_at: now,
            finished_at: None,
            dead_at: None,
            replayed_at: None,
            schedule_start: 0,
            parked_for: None,
            parked_reason: None,
            parked_at: None,
            expires_at: None,
            replay_id: None,
        }
    }

    /// Why it is parked and since when, if it is parked.
    pub fn parked(&self) -> Option<(ParkedReason, Timestamp)> {
        let parked = self.status == Status::Pending && self.parked_for.is_some();
        self.parked_reason.zip(self.parked_at).filter(|_| parked)
    }
}

impl Entity {
    /// A tenant's deliveries.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find().filter(Column::TenantId.eq(tenant))
    }

    /// A tenant's dead letters.
    pub fn dead_of_tenant(tenant: TenantId) -> Select<Self> {
        Self::of_tenant(tenant).filter(Column::DeadAt.is_not_null())
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
