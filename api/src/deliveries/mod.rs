//! Deliveries: the work, one row for each message to each endpoint and each email to each recipient.

mod body;
mod failures;
mod parked;
mod retry;
mod waiting;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    delivery::{DeliveryKind, ErrorClass, ParkedReason, Status},
    ids,
    replay::Filter,
    store::read::{self, deliveries::Wanted},
};

use self::failures::{AlreadyDelivered, AlreadyDiscarded};
pub(crate) use self::{
    body::{Attempt, Delivery},
    failures::{AlreadyCancelled, TooLate},
    parked::HeldUntil,
    waiting::{already_cancelled, cancelled, rescheduled},
};
use crate::{
    Services,
    auth::{Authorized, may},
    http::{
        ApiError, Cursor, EventTypeName, FailsWith, Limit, Moment, Page, Paging, Queued, Ref,
        Reply, Text, document::Tag,
    },
    idempotency::SafeToRepeat,
};

/// The operations on deliveries.
#[derive(Debug)]
pub(crate) struct DeliveriesApi;

#[OpenApi(prefix_path = "/v1/deliveries", tag = "Tag::Deliveries")]
impl DeliveriesApi {
    /// List deliveries
    ///
    /// Filters narrow the list down together: a delivery has to fit all that are given.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the operation"
    )]
    #[oai(path = "/", method = "get", operation_id = "deliveries_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// Only this kind.
        kind: Query<Option<Text<DeliveryKind>>>,
        /// Only those that stand here.
        status: Query<Option<Text<Status>>>,
        /// Only those to this endpoint.
        endpoint: Query<Option<Ref<ids::Endpoint>>>,
        /// Another name of `endpoint`.
        endpoint_id: Query<Option<Ref<ids::Endpoint>>>,
        /// Only webhooks of this event type.
        event_type: Query<Option<Text<EventTypeName>>>,
        /// Only those whose last attempt failed for this reason.
        error_class: Query<Option<Text<ErrorClass>>>,
        /// Only those that are held back for this reason.
        parked: Query<Option<Text<ParkedReason>>>,
        /// Only those accepted at this time or later.
        since: Query<Option<Moment>>,
        /// Only those accepted before this time.
        until: Query<Option<Moment>>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<Delivery>>, ApiError> {
        let filter = Filter {
            kind: kind.0.map(|kind| kind.0),
            endpoint_id: endpoint_id.0.map(|id| id.0),
            event_type: event_type.0.map(|name| name.0.0),
            error_class: error_class.0.map(|class| class.0),
            since: since.0.map(|time| time.0),
            until: until.0.map(|time| time.0),
            ..Filter::default()
        };
        let wanted = Wanted {
            filter,
            // Who gives both names of the endpoint means both.
            endpoint_id: endpoint.0.map(|id| id.0),
            status: status.0.map(|status| status.0),
            parked: parked.0.map(|reason| reason.0),
        };
        let page = Paging::new(limit.0, cursor.0).bounds();
        let deliveries = read::deliveries::list(&services.db, caller.tenant, &wanted, page).await?;
        let until = HeldUntil::of(&services.db, &deliveries.rows).await?;
        Reply::of(&Page::from(deliveries).map(|row| until.show(row)))
    }

    /// Get a delivery
    ///
    /// Where it stands; its attempts have an operation of their own.
    #[oai(
        path = "/:delivery_id",
        method = "get",
        operation_id = "deliveries_get"
    )]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// The delivery.
        delivery_id: Path<Ref<ids::Delivery>>,
    ) -> Result<Reply<Delivery>, ApiError> {
        let row = read::deliveries::find(&services.db, caller.tenant, delivery_id.0.0).await?;
        let row = row.ok_or_else(not_found)?;
        let until = HeldUntil::of(&services.db, [&row]).await?;
        Reply::of(&until.show(row))
    }

    /// List a delivery's attempts
    ///
    /// What each was answered with, and how long it took.
    #[oai(
        path = "/:delivery_id/attempts",
        method = "get",
        operation_id = "deliveries_list_attempts"
    )]
    async fn attempts(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// The delivery.
        delivery_id: Path<Ref<ids::Delivery>>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<Attempt>>, ApiError> {
        let (db, tenant) = (&services.db, caller.tenant);
        let delivery = read::deliveries::find(db, tenant, delivery_id.0.0).await?;
        let delivery = delivery.ok_or_else(not_found)?;
        let page = Paging::new(limit.0, cursor.0).bounds();
        let attempts = read::attempts::list(db, tenant, delivery.id, page).await?;
        Reply::of(&Page::from(attempts).map(Attempt::from))
    }

    /// Retry a delivery now
    ///
    /// One that waits, for its next attempt or for the time that its sender named, is due now. A dead one is replayed. For
    /// one that is due already nothing changes. One that was delivered is 409 `already_delivered`, one that was discarded
    /// 409 `already_discarded`.
    #[oai(
        path = "/:delivery_id/retry",
        method = "post",
        operation_id = "deliveries_retry"
    )]
    async fn retry(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        _again: SafeToRepeat,
        /// The delivery.
        delivery_id: Path<Ref<ids::Delivery>>,
    ) -> Result<Queued<Delivery>, FailsWith<(AlreadyDelivered, AlreadyDiscarded)>> {
        let row = retry::retry(services, &caller, delivery_id.0.0).await?;
        let until = HeldUntil::of(&services.db, [&row]).await?;
        Ok(Queued::of(&until.show(row))?)
    }
}

fn not_found() -> ApiError {
    ApiError::not_found("delivery")
}
