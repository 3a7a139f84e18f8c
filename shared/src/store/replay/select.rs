//! Finds the deliveries that a filter or a job selects: the one place where a filter becomes SQL.
//!
//! Guarantee: a selection is of one tenant. No transition of a delivery is made here.

use sea_orm::{
    ColumnTrait as _, Condition, QueryFilter as _, Select,
    sea_query::{Expr, ExprTrait as _, Query},
};

use crate::{
    clock::Timestamp,
    delivery::Reason,
    ids::{DeliveryId, MessageId, TenantId},
    replay::{Filter, Selection},
    store::schema::{
        delivery::{Column, Entity},
        message,
    },
};

impl Selection {
    /// Selects the dead letters of `tenant` that are selected and were dead at `as_of` already: a job leaves alone what dies
    /// after it was made.
    pub fn dead_letters(&self, tenant: TenantId, as_of: Timestamp) -> Select<Entity> {
        Entity::dead_of_tenant(tenant)
            .filter(Column::DeadAt.lte(as_of))
            .filter(self.condition())
    }

    fn condition(&self) -> Condition {
        match self {
            Self::Ids(ids) => Condition::all().add(Column::Id.is_in(ids.iter().copied())),
            Self::Filter(filter) => filter.condition(),
            // By the message's id: its delivery may be younger, when an earlier job made it.
            Self::Missed(missed) => Condition::all()
                .add(Column::EndpointId.eq(missed.endpoint_id))
                .add(Column::MessageId.gte(MessageId::floor(missed.since)))
                .add(Column::MessageId.lt(MessageId::floor(missed.until))),
        }
    }
}

impl Filter {
    /// Returns the condition on a row of `deliveries`.
    pub fn condition(&self) -> Condition {
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
        .and_where(Expr::col(message).equals((Entity, Column::MessageId)))
        .and_where(message::Column::EventType.eq(event_type))
        .to_owned();
    Expr::exists(of_type)
}
