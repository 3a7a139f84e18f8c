//! Deliveries of one message or email that wait for the time its sender named: all of them can still be cancelled or
//! rescheduled, or none.

use chrono::TimeDelta;
use sea_orm::{
    ColumnTrait as _, Condition,
    sea_query::{Expr, SimpleExpr},
};

use super::schema::delivery::{Column, Model};
use crate::{
    clock::Timestamp,
    delivery::{Reason, Status},
    ids::{EmailId, MessageId, TenantId},
};

/// A worker whose clock is ahead of this one may already be sending what is due within this time.
const MARGIN: TimeDelta = TimeDelta::seconds(1);

/// The message or email whose deliveries are meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Message(MessageId),
    Email(EmailId),
}

impl Source {
    /// The condition on its deliveries.
    pub(super) fn deliveries(self) -> SimpleExpr {
        match self {
            Self::Message(id) => Column::MessageId.eq(id),
            Self::Email(id) => Column::EmailId.eq(id),
        }
    }

    /// The condition on those of its deliveries that wait for their first attempt, which no worker can have begun.
    pub(super) fn waiting(self, tenant: TenantId, now: Timestamp) -> Condition {
        Condition::all()
            .add(Column::TenantId.eq(tenant))
            .add(self.deliveries())
            .add(Column::Status.eq(Status::Pending))
            .add(Column::AttemptCount.eq(0))
            .add(Column::NextAttemptAt.gt(now + MARGIN))
            // A worker whose clock is further ahead is handing a mail over already.
            .add(Expr::cust("sending_token IS NULL"))
    }
}

/// Whether a message or email without deliveries is past the time that its sender named, or has none.
pub(super) fn is_due(due: Option<Timestamp>, now: Timestamp) -> bool {
    due.is_none_or(|due| due <= now)
}

pub(super) fn is_cancelled(delivery: &Model) -> bool {
    delivery.status == Status::Discarded && delivery.reason == Some(Reason::Cancelled)
}
