//! What narrows the list of deliveries down.

use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, ErrorClass, Reason, Status},
    entities::{delivery, message},
    ids::{DeliveryId, EndpointId},
};
use sea_orm::{
    ColumnTrait as _, QueryFilter as _, QueryTrait as _, Select,
    sea_query::{Expr, ExprTrait as _, Query},
};

/// The filters that were given.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) kind: Option<DeliveryKind>,
    pub(crate) status: Option<Status>,
    pub(crate) endpoint: Option<EndpointId>,
    /// The other name of `endpoint`; who gives both means both.
    pub(crate) endpoint_id: Option<EndpointId>,
    pub(crate) event_type: Option<String>,
    pub(crate) reason: Option<Reason>,
    pub(crate) error_class: Option<ErrorClass>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

impl Filter {
    /// Narrows a list of deliveries down.
    pub(crate) fn apply(self, list: Select<delivery::Entity>) -> Select<delivery::Entity> {
        use delivery::Column;
        list.apply_if(self.kind, |list, kind| list.filter(Column::Kind.eq(kind)))
            .apply_if(self.status, |list, status| {
                list.filter(Column::Status.eq(status))
            })
            .apply_if(self.endpoint_id, |list, endpoint| {
                list.filter(Column::EndpointId.eq(endpoint))
            })
            .apply_if(self.endpoint, |list, endpoint| {
                list.filter(Column::EndpointId.eq(endpoint))
            })
            .apply_if(self.reason, |list, reason| {
                list.filter(Column::Reason.eq(reason))
            })
            .apply_if(self.error_class, |list, class| {
                list.filter(Column::ErrorClass.eq(class))
            })
            // By id, which begins with the time: the index that orders the list bounds it too.
            .apply_if(self.since, |list, since| {
                list.filter(Column::Id.gte(DeliveryId::floor(since)))
            })
            .apply_if(self.until, |list, until| {
                list.filter(Column::Id.lt(DeliveryId::floor(until)))
            })
            .apply_if(self.event_type, |list, event_type| {
                let message = (message::Entity, message::Column::Id);
                let of_type = Query::select()
                    .expr(Expr::val(1))
                    .from(message::Entity)
                    .and_where(Expr::col(message).equals((delivery::Entity, Column::MessageId)))
                    .and_where(message::Column::EventType.eq(event_type))
                    .to_owned();
                list.filter(Expr::exists(of_type))
            })
    }
}
