//! Messages: events that a tenant publishes, and that go out as webhooks.

mod accept;
mod body;
mod catalog;
mod insert;

use std::{collections::HashMap, sync::Arc};

use futures::future::join_all;
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    db::begin_write,
    entities::{delivery, message},
    ids::{Message as MessageKind, MessageId, TenantId},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, QueryTrait as _,
    sea_query::Expr,
};

use self::body::{Message, MessageBatch, MessageDetail, NewMessage, RescheduleMessage};
pub(crate) use self::{accept::Publish, catalog::Catalogs};
use crate::{
    Services,
    accept::Submission,
    audit::{self, Action},
    auth::{Authorized, may},
    deliveries::{self, Changed, Delivery, Now},
    event_types::{Allowance, Checked, is_stale},
    http::{
        ApiError, Checks, Cursor, EventTypeName, Limit, Page, Paging, Recorded, Ref, Repeatable,
        Reply, Results, StrictJson, Text, document::Tag, read_item,
    },
    idempotency::{Accepted, Batch, BatchBegun, IdempotencyKey, Keyed},
    limits::Meter,
};

/// How often a message is handed in whose event type gets another schema meanwhile.
const ATTEMPTS: usize = 3;

async fn publish(
    services: &Services,
    caller: &Authorized<may::Send>,
    keyed: Option<Keyed>,
    message: NewMessage,
    allowance: &Allowance,
) -> Result<Accepted, ApiError> {
    message.check(services.clock.now())?;
    let held = match keyed {
        Some(keyed) => Some(services.in_flight.hold(caller.tenant, keyed).await?),
        None => None,
    };
    let (tenant, message) = (caller.tenant, Arc::new(message));
    let name = &message.event_type;
    let mut attempt = 1;
    loop {
        let payload = message.payload.get();
        let checked = services
            .schemas
            .check(tenant, name, payload, allowance)
            .await;
        let edition = checked.as_ref().map(Checked::edition);
        let submission = Submission {
            tenant,
            request_id: caller.request_id.clone(),
            held: held.clone(),
            command: Publish {
                message: message.clone(),
                checked,
            },
        };
        match services.messages.accept(submission).await {
            Err(error) if attempt < ATTEMPTS && is_stale(&error) => {
                let schemas = &services.schemas;
                schemas.load(&services.db, tenant, name, edition).await?;
                attempt += 1;
            }
            answer => return answer,
        }
    }
}

/// The operations on messages.
#[derive(Debug)]
pub(crate) struct MessagesApi;

#[OpenApi(prefix_path = "/v1/messages", tag = "Tag::Messages")]
impl MessagesApi {
    /// Publish a message
    ///
    /// Stores the event with one delivery for each of the tenant's endpoints that wants it, and answers. Delivery goes on
    /// in the background: `deliveries_get` tells how. The payload goes out byte for byte as it stands in this request. One
    /// that does not fit the schema of its event type is 422 `validation_failed`; one that costs too much to check is 422
    /// `schema_too_expensive`.
    #[oai(path = "/", method = "post", operation_id = "messages_publish")]
    async fn publish(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<NewMessage>,
    ) -> Result<Recorded<Message>, ApiError> {
        let _place = key.place(&services.in_flight, caller.tenant)?;
        let keyed = key.of("POST /v1/messages", &body.bytes);
        let allowance = Allowance::new();
        let published = publish(services, &caller, keyed, body.value, &allowance).await?;
        Ok(published.into())
    }

    /// Publish up to 500 messages
    ///
    /// Each is published or refused by itself; `results` has one entry for each, in the order given. Their payloads are
    /// checked one after the other; when that takes more than 5 s, the rest of those that cost much to check is refused
    /// (422 `schema_too_expensive`). With an
    /// `Idempotency-Key` the whole batch can be sent again: it is answered as the first time. One that was cut off half-way goes on,
    /// and what was published already is answered with 200 and its id.
    #[oai(
        path = "/batch",
        method = "post",
        operation_id = "messages_publish_batch"
    )]
    async fn publish_batch(
        &self,
        Data(services): Data<&Services>,
        Data(meter): Data<&Meter>,
        caller: Authorized<may::Send>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<MessageBatch>,
    ) -> Result<Repeatable<Results>, ApiError> {
        let items = body.value.messages.checked("messages")?;
        meter.items(items.len()).await?;
        let operation = "POST /v1/messages/batch";
        let batch =
            match Batch::begin(services, caller.tenant, &key, operation, &body.bytes).await? {
                BatchBegun::Done(answer) => return Ok(Repeatable::again(answer)),
                BatchBegun::Work(batch) => batch,
            };
        let _place = key.place(&services.in_flight, caller.tenant)?;
        let allowance = Allowance::new();
        let published = items.iter().enumerate().map(async |(index, item)| {
            let keyed = key.item(index).of(operation, item.get().as_bytes());
            publish(services, &caller, keyed, read_item(item)?, &allowance).await
        });
        Results::answer(&batch, join_all(published).await, &caller.request_id).await
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
        let row = find(&services.db, caller.tenant, message_id.0.0).await?;
        let its = delivery::Column::MessageId.eq(row.id);
        let deliveries = deliveries::load_all(&services.db, caller.tenant, its).await?;
        let deliveries = deliveries.into_iter().map(Delivery::from).collect();
        Reply::of(&MessageDetail::new(row, deliveries))
    }
    /// Cancel a message
    ///
    /// One whose `deliver_at` is still to come goes to nobody any more: its deliveries are `discarded`, with the reason
    /// `cancelled`. Once it is due it is 409 `too_late`. Cancelled twice it is answered the same.
    #[oai(
        path = "/:message_id/cancel",
        method = "post",
        operation_id = "messages_cancel"
    )]
    async fn cancel(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        /// The message.
        message_id: Path<Ref<MessageKind>>,
    ) -> Result<Changed<Message>, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = find(&tx, caller.tenant, message_id.0.0).await?;
        // First: a job that recovers an endpoint at the same moment has the row locked, and its delivery is seen then.
        message::Entity::update_many()
            .col_expr(
                message::Column::CancelledAt,
                Expr::value(row.cancelled_at.unwrap_or(now)),
            )
            .filter(message::Column::Id.eq(row.id))
            .exec(&tx)
            .await?;
        let its = delivery::Column::MessageId.eq(row.id);
        let Now {
            changed,
            deliveries,
        } = deliveries::cancel(&tx, caller.tenant, its, row.deliver_at, now).await?;
        if changed {
            audit::record(&tx, &caller, Action::MessageCancelled, row.id, now).await?;
        }
        tx.commit().await?;
        Reply::of(&shown(&row, deliveries)).map(Changed)
    }

    /// Reschedule a message
    ///
    /// Gives one whose `deliver_at` is still to come another time. Once it is due it is 409 `too_late`, and 409
    /// `already_cancelled` when it was cancelled.
    #[oai(
        path = "/:message_id",
        method = "patch",
        operation_id = "messages_reschedule"
    )]
    async fn reschedule(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        /// The message.
        message_id: Path<Ref<MessageKind>>,
        body: StrictJson<RescheduleMessage>,
    ) -> Result<Changed<Message>, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let mut row = find(&tx, caller.tenant, message_id.0.0).await?;
        if row.cancelled_at.is_some() {
            return Err(deliveries::already_cancelled());
        }
        let to = body.value.deliver_at;
        let mut checks = Checks::default();
        checks.due("deliver_at", Some(to), now);
        let in_time = row.expires_at.is_none_or(|expires| to.0 < expires);
        checks.require(in_time, "deliver_at", || {
            "expected a time before expires_at".to_owned()
        });
        checks.finish()?;
        let its = delivery::Column::MessageId.eq(row.id);
        let Now { deliveries, .. } =
            deliveries::reschedule(&tx, caller.tenant, its, row.deliver_at, to.0, now).await?;
        message::Entity::update_many()
            .col_expr(message::Column::DeliverAt, Expr::value(to.0))
            .filter(message::Column::Id.eq(row.id))
            .exec(&tx)
            .await?;
        row.deliver_at = Some(to.0);
        audit::record(&tx, &caller, Action::MessageRescheduled, row.id, now).await?;
        tx.commit().await?;
        Reply::of(&shown(&row, deliveries)).map(Changed)
    }
}

fn shown(row: &message::Model, deliveries: Vec<delivery::Model>) -> Message {
    Message::new(row, deliveries.into_iter().map(Delivery::from).collect())
}

/// A tenant's message.
///
/// # Errors
/// 404 when there is none.
async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: MessageId,
) -> Result<message::Model, ApiError> {
    message::Entity::of_tenant(tenant)
        .filter(message::Column::Id.eq(id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("message"))
}
