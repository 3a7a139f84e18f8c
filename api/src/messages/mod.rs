//! Messages: events that a tenant publishes, and that go out as webhooks.

mod accept;
mod body;
mod catalog;

use std::sync::Arc;

use futures::future::join_all;
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    db::begin_write,
    ids::{Message as MessageKind, MessageId, TenantId},
    store::{self, read},
};
use sea_orm::ConnectionTrait;

pub(crate) use self::accept::Messages;
use self::accept::Publish;
use self::body::{Message, MessageBatch, MessageDetail, NewMessage, RescheduleMessage};
use crate::{
    Services,
    accept::Submission,
    audit::{self, Action},
    auth::{Authorized, may},
    deliveries::{self, AlreadyCancelled, Delivery, HeldUntil, TooLate},
    event_types::{Allowance, Checked, EventTypeArchived, SchemaTooExpensive, is_stale},
    http::{
        ApiError, Checks, Cursor, EventTypeName, FailsWith, Limit, Page, Paging, Recorded, Ref,
        Repeatable, Reply, Results, StrictJson, Text, document::Tag, read_item,
    },
    idempotency::{
        Accepted, Batch, BatchBegun, Holding, IdempotencyKey, Keyed, SafeToRepeat, hold,
    },
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
    let held = match hold(services, caller.tenant, keyed.as_ref()).await? {
        Holding::Work(held) => held,
        Holding::Again(answer) => return Ok(answer),
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
        key: IdempotencyKey,
        body: StrictJson<NewMessage>,
    ) -> Result<Recorded<Message>, FailsWith<(EventTypeArchived, SchemaTooExpensive)>> {
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
        key: IdempotencyKey,
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
        let event_type = event_type.0.map(|Text(name)| name.0);
        let page = Paging::new(limit.0, cursor.0).bounds();
        let messages = read::messages::list(&services.db, caller.tenant, event_type, page).await?;
        let of_page = messages.rows.iter().flat_map(|(_, deliveries)| deliveries);
        let until = HeldUntil::of(&services.db, of_page).await?;
        Reply::of(&Page::from(messages).map(|(row, its)| Message::new(&row, until.show_all(its))))
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
        let deliveries =
            read::deliveries::of_messages(&services.db, caller.tenant, [row.id]).await?;
        let until = HeldUntil::of(&services.db, &deliveries).await?;
        let deliveries = until.show_all(deliveries);
        let payload = read::messages::payload(&services.db, row.id).await?;
        Reply::of(&MessageDetail::new(&row, payload, deliveries))
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
        _again: SafeToRepeat,
        /// The message.
        message_id: Path<Ref<MessageKind>>,
    ) -> Result<Reply<Message>, FailsWith<TooLate>> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = find(&tx, caller.tenant, message_id.0.0).await?;
        let cancelled = store::cancel::message(&tx, &row, now).await?;
        let (changed, deliveries) = deliveries::cancelled(cancelled)?;
        if changed {
            audit::record(&tx, &caller, Action::MessageCancelled, row.id, now).await?;
        }
        tx.commit().await?;
        Ok(Reply::of(&shown(&row, deliveries))?)
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
    ) -> Result<Reply<Message>, FailsWith<(AlreadyCancelled, TooLate)>> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let mut row = find(&tx, caller.tenant, message_id.0.0).await?;
        if row.cancelled_at.is_some() {
            return Err(deliveries::already_cancelled().into());
        }
        let to = body.value.deliver_at;
        let mut checks = Checks::default();
        checks.due("deliver_at", Some(to), now);
        let in_time = row.expires_at.is_none_or(|expires| to.0 < expires);
        checks.require(in_time, "deliver_at", || {
            "expected a time before expires_at".to_owned()
        });
        checks.finish()?;
        let moved = store::reschedule::message(&tx, &row, to.0, now).await?;
        let deliveries = deliveries::rescheduled(moved)?;
        row.deliver_at = Some(to.0);
        audit::record(&tx, &caller, Action::MessageRescheduled, row.id, now).await?;
        tx.commit().await?;
        Ok(Reply::of(&shown(&row, deliveries))?)
    }
}

fn shown(row: &store::Message, deliveries: Vec<store::Delivery>) -> Message {
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
) -> Result<store::Message, ApiError> {
    let found = read::messages::find(db, tenant, id).await?;
    found.ok_or_else(|| ApiError::not_found("message"))
}
