//! Webhooks that were given up.

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    delivery::{DeliveryKind, ErrorClass, Reason},
    ids,
    replay::Filter,
    store::read,
};

use super::{actions, attempts_of, body::WebhookDeadLetter, find};
use crate::{
    Services,
    auth::{Authorized, may},
    deliveries::Delivery,
    http::{
        ApiError, Cursor, EventTypeName, Limit, Moment, NoContent, Page, Paging, Queued, RawJson,
        Ref, Reply, Text, document::Tag,
    },
    idempotency::SafeToRepeat,
};

const KIND: DeliveryKind = DeliveryKind::Webhook;

/// The operations on webhooks that were given up.
#[derive(Debug)]
pub(crate) struct WebhookDeadLettersApi;

#[OpenApi(prefix_path = "/v1/webhooks/dlq", tag = "Tag::DeadLetters")]
impl WebhookDeadLettersApi {
    /// List dead webhooks
    ///
    /// Filters narrow the list down together: a dead letter has to fit all that are given.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the operation"
    )]
    #[oai(path = "/", method = "get", operation_id = "webhooks_dlq_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// Only those to this endpoint.
        endpoint_id: Query<Option<Ref<ids::Endpoint>>>,
        /// Only those of this event type.
        event_type: Query<Option<Text<EventTypeName>>>,
        /// Only those that died for this reason.
        reason: Query<Option<Text<Reason>>>,
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
            endpoint_id: endpoint_id.0.map(|id| id.0),
            event_type: event_type.0.map(|name| name.0.0),
            reason: reason.0.map(|reason| reason.0),
            error_class: error_class.0.map(|class| class.0),
            since: since.0.map(|time| time.0),
            until: until.0.map(|time| time.0),
            ..Filter::default()
        };
        let page = Paging::new(limit.0, cursor.0).bounds();
        let dead = read::dead_letters::list(&services.db, caller.tenant, KIND, &filter, page);
        Reply::of(&Page::from(dead.await?).map(Delivery::from))
    }

    /// Get a dead webhook
    ///
    /// With its payload and every attempt.
    #[oai(
        path = "/:delivery_id",
        method = "get",
        operation_id = "webhooks_dlq_get"
    )]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// The delivery.
        delivery_id: Path<Ref<ids::Delivery>>,
    ) -> Result<Reply<WebhookDeadLetter>, ApiError> {
        let dead = find(&services.db, caller.tenant, KIND, delivery_id.0.0).await?;
        let payload = match dead.message_id {
            Some(id) => read::messages::payload(&services.db, id).await?,
            None => None,
        };
        Reply::of(&WebhookDeadLetter {
            payload: payload.and_then(RawJson::from_bytes),
            attempts: attempts_of(&services.db, &dead).await?,
            delivery: dead.into(),
        })
    }

    /// Replay a dead webhook
    ///
    /// It is sent again, with the same `webhook-id`, and gets a whole retry schedule anew; its attempts stay on record.
    /// Replays do not delay live webhooks. Replaying one that waits because it was just replayed changes nothing.
    #[oai(
        path = "/:delivery_id/replay",
        method = "post",
        operation_id = "webhooks_dlq_replay"
    )]
    async fn replay(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        _again: SafeToRepeat,
        /// The delivery.
        delivery_id: Path<Ref<ids::Delivery>>,
    ) -> Result<Queued<Delivery>, ApiError> {
        let row = actions::replay(services, &caller, KIND, delivery_id.0.0).await?;
        Queued::of(&row.into())
    }

    /// Discard a dead webhook
    ///
    /// It leaves the queue for good, undelivered, and is kept as a delivery that was `discarded`.
    #[oai(
        path = "/:delivery_id",
        method = "delete",
        operation_id = "webhooks_dlq_discard"
    )]
    async fn discard(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// The delivery.
        delivery_id: Path<Ref<ids::Delivery>>,
    ) -> Result<NoContent, ApiError> {
        actions::discard(services, &caller, KIND, delivery_id.0.0).await?;
        Ok(NoContent)
    }
}
