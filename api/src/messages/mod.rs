//! Messages: events that a tenant publishes, and that go out as webhooks.

mod accept;
mod body;

use std::collections::HashMap;

use futures::future::join_all;
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    entities::{delivery, message},
    ids::{Message as MessageKind, MessageId},
};
use sea_orm::{ColumnTrait as _, QueryFilter as _, QueryTrait as _};

pub(crate) use self::accept::Publish;
use self::body::{Message, MessageBatch, MessageDetail, NewMessage};
use crate::{
    Services,
    accept::Submission,
    auth::{Authorized, may},
    deliveries::{self, Delivery},
    http::{
        ApiError, Cursor, EventTypeName, Items, Limit, Page, Paging, Recorded, Ref, Reply, Results,
        StrictJson, Text, document::Tag,
    },
    idempotency::{Accepted, IdempotencyKey, Keyed},
};

/// Messages in one batch at most.
const MAX_BATCH: usize = 500;

async fn publish(
    services: &Services,
    caller: &Authorized<may::Send>,
    keyed: Option<Keyed>,
    message: NewMessage,
) -> Result<Accepted, ApiError> {
    message.check(services.clock.now())?;
    let submission = Submission {
        tenant: caller.tenant,
        request_id: caller.request_id.clone(),
        keyed,
        command: Publish(message),
    };
    services.messages.accept(submission).await
}

/// The operations on messages.
#[derive(Debug)]
pub(crate) struct MessagesApi;

#[OpenApi(prefix_path = "/v1/messages", tag = "Tag::Messages")]
impl MessagesApi {
    /// Publish a message
    ///
    /// Stores the event with one delivery for each of the tenant's endpoints that wants it, and answers. Delivery goes on
    /// in the background: `deliveries_get` tells how. The payload goes out byte for byte as it stands in this request.
    #[oai(path = "/", method = "post", operation_id = "messages_publish")]
    async fn publish(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<NewMessage>,
    ) -> Result<Recorded<Message>, ApiError> {
        let keyed = key.of("POST /v1/messages", &body.bytes);
        Ok(publish(services, &caller, keyed, body.value).await?.into())
    }

    /// Publish up to 500 messages
    ///
    /// Each is published or refused by itself; `results` has one entry for each, in the order given. With an
    /// `Idempotency-Key` the whole batch can be sent again: what was published already is answered with 200 and its id.
    #[oai(
        path = "/batch",
        method = "post",
        operation_id = "messages_publish_batch"
    )]
    async fn publish_batch(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<MessageBatch>,
    ) -> Result<Reply<Results>, ApiError> {
        let items = body.value.messages.up_to(MAX_BATCH, "messages")?;
        let published = items.iter().enumerate().map(async |(index, item)| {
            let keyed = key
                .item(index)
                .of("POST /v1/messages/batch", item.get().as_bytes());
            publish(services, &caller, keyed, Items::read(item)?).await
        });
        Reply::of(&Results::new(join_all(published).await, &caller.request_id))
    }

    /// List messages
    ///
    /// With their deliveries, without their payloads.
    #[oai(path = "/", method = "get", operation_id = "messages_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// Only this event type.
        event_type: Query<Option<Text<EventTypeName>>>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<Message>>, ApiError> {
        let messages = message::Entity::of_tenant(caller.tenant)
            .apply_if(event_type.0, |list, Text(name)| {
                list.filter(message::Column::EventType.eq(name.0))
            });
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, messages, message::Column::Id, |row| row.id)
            .await?;
        let ids: Vec<MessageId> = page.data.iter().map(|row| row.id).collect();
        let of_page = delivery::Column::MessageId.is_in(ids);
        let mut deliveries: HashMap<Option<MessageId>, Vec<Delivery>> = HashMap::new();
        for row in deliveries::load_all(&services.db, caller.tenant, of_page).await? {
            deliveries
                .entry(row.message_id)
                .or_default()
                .push(row.into());
        }
        Reply::of(&page.map(|row| {
            let its = deliveries.remove(&Some(row.id)).unwrap_or_default();
            Message::new(&row, its)
        }))
    }

    /// Get a message
    ///
    /// With its payload and its deliveries.
    #[oai(path = "/:message_id", method = "get", operation_id = "messages_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// The message.
        message_id: Path<Ref<MessageKind>>,
    ) -> Result<Reply<MessageDetail>, ApiError> {
        let row = message::Entity::of_tenant(caller.tenant)
            .filter(message::Column::Id.eq(message_id.0.0))
            .one(&services.db)
            .await?
            .ok_or_else(|| ApiError::not_found("message"))?;
        let its = delivery::Column::MessageId.eq(row.id);
        let deliveries = deliveries::load_all(&services.db, caller.tenant, its).await?;
        let deliveries = deliveries.into_iter().map(Delivery::from).collect();
        Reply::of(&MessageDetail::new(row, deliveries))
    }
}
