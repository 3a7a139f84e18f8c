//! Deliveries: the work, one row for each message to each endpoint and each email to each recipient.

mod body;
mod retry;
mod waiting;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    delivery::{DeliveryKind, ErrorClass, Status},
    entities::{attempt, delivery},
    ids::{self, DeliveryId, TenantId},
    replay::Filter,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, QueryFilter as _, QueryOrder as _, QueryTrait as _,
    sea_query::SimpleExpr,
};

use self::retry::Retried;
pub(crate) use self::{
    body::{Attempt, Delivery},
    retry::addressed,
    waiting::{Changed, Now, already_cancelled, cancel, reschedule},
};
use crate::{
    Services,
    auth::{Authorized, may},
    http::{
        ApiError, Cursor, EventTypeName, Limit, Moment, Page, Paging, Queued, Ref, Reply, Text,
        document::Tag,
    },
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
        let deliveries = delivery::Entity::of_tenant(caller.tenant)
            .filter(filter.condition())
            // Who gives both names of the endpoint means both.
            .apply_if(endpoint.0, |list, endpoint| {
                list.filter(delivery::Column::EndpointId.eq(endpoint.0))
            })
            .apply_if(status.0, |list, status| {
                list.filter(match status.0 {
                    // What is dead has an index; no index names the status.
                    Status::Dead => delivery::Column::DeadAt.is_not_null(),
                    status => delivery::Column::Status.eq(status),
                })
            });
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, deliveries, delivery::Column::Id, |row| row.id)
            .await?;
        Reply::of(&page.map(Delivery::from))
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
        let row = find(&services.db, caller.tenant, delivery_id.0.0).await?;
        Reply::of(&row.into())
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
        let delivery = find(&services.db, caller.tenant, delivery_id.0.0).await?;
        let attempts = attempt::Entity::of_tenant(caller.tenant)
            .filter(attempt::Column::DeliveryId.eq(delivery.id));
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, attempts, attempt::Column::Id, |row| row.id)
            .await?;
        Reply::of(&page.map(Attempt::from))
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
        /// The delivery.
        delivery_id: Path<Ref<ids::Delivery>>,
    ) -> Result<Retried, ApiError> {
        let row = retry::retry(services, &caller, delivery_id.0.0).await?;
        Queued::of(&row.into()).map(Retried)
    }
}

/// A tenant's deliveries that fit `of` (those of some messages, say), oldest first.
pub(crate) async fn load_all(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    of: SimpleExpr,
) -> Result<Vec<delivery::Model>, DbErr> {
    delivery::Entity::of_tenant(tenant)
        .filter(of)
        .order_by_asc(delivery::Column::Id)
        .all(db)
        .await
}

/// A tenant's delivery.
///
/// # Errors
/// 404 when there is none.
async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<delivery::Model, ApiError> {
    delivery::Entity::of_tenant(tenant)
        .filter(delivery::Column::Id.eq(id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("delivery"))
}
