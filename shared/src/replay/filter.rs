//! What narrows deliveries down: the one place where a filter becomes SQL.

use sea_orm::{
    ColumnTrait as _, Condition,
    sea_query::{Expr, ExprTrait as _, Query},
};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    delivery::{DeliveryKind, ErrorClass, Reason},
    entities::{delivery, message},
    ids::{DeliveryId, EndpointId},
};

/// What a delivery has to be like. It has to fit all that are given; without any, every delivery fits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// What is delivered.
    pub kind: Option<DeliveryKind>,
    /// Where it goes.
    pub endpoint_id: Option<EndpointId>,
    /// The type of its message, which only webhooks have.
    pub event_type: Option<String>,
    /// Why it is dead.
    pub reason: Option<Reason>,
    /// Why its last attempt failed.
    pub error_class: Option<ErrorClass>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
    /// Leaves out mails that may have arrived (dead with the reason `uncertain`).
    pub except_uncertain: bool,
}

impl Filter {
    /// The condition on a row of `deliveries`.
    pub fn condition(&self) -> Condition {
        use delivery::Column;
        Condition::all()
            .add_option(self.kind.map(|kind| Column::Kind.eq(kind)))
            .add_option(self.endpoint_id.map(|id| Column::EndpointId.eq(id)))
            .add_option(self.reason.map(|reason| Column::Reason.eq(reason)))
            .add_option(self.error_class.map(|class| Column::ErrorClass.eq(class)))
            // By id, which begins with the time: the index that orders the deliveries bounds them too.
            .add_option(
                self.since
                    .map(|since| Column::Id.gte(DeliveryId::floor(since))),
            )
            .add_option(
                self.until
                    .map(|until| Column::Id.lt(DeliveryId::floor(until))),
            )
            .add_option(self.event_type.as_deref().map(is_of_type))
            .add_option(
                self.except_uncertain
                    .then(|| Column::Reason.ne(Reason::Uncertain)),
            )
    }
}

fn is_of_type(event_type: &str) -> Expr {
    let message = (message::Entity, message::Column::Id);
    let of_type = Query::select()
        .expr(Expr::val(1))
        .from(message::Entity)
        .and_where(Expr::col(message).equals((delivery::Entity, delivery::Column::MessageId)))
        .and_where(message::Column::EventType.eq(event_type))
        .to_owned();
    Expr::exists(of_type)
}
