//! Emails: handed in once, delivered to each recipient on its own.

mod accept;
mod body;

use futures::future::join_all;
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    db::begin_write,
    ids::{Email as EmailKind, EmailId, TenantId},
    store::{self, read},
};
use sea_orm::ConnectionTrait;

use self::accept::SendEmail;
use self::body::{Email, EmailBatch, EmailDetail, NewEmail, RescheduleEmail};
pub(crate) use self::{accept::Emails, body::EmailContent};
use crate::{
    Services,
    accept::Submission,
    audit::{self, Action},
    auth::{Authorized, may},
    deliveries::{self, AlreadyCancelled, Delivery, HeldUntil, TooLate},
    http::{
        ApiError, Checks, Cursor, FailsWith, Limit, Page, Paging, Recorded, Ref, Repeatable, Reply,
        Results, StrictJson, Text, document::Tag, read_item,
    },
    idempotency::{
        Accepted, Batch, BatchBegun, Holding, IdempotencyKey, Keyed, SafeToRepeat, hold,
    },
    limits::Meter,
};

async fn send(
    services: &Services,
    caller: &Authorized<may::Send>,
    keyed: Option<Keyed>,
    email: NewEmail,
) -> Result<Accepted, ApiError> {
    let command = SendEmail::new(email, &services.settings.emails, services.clock.now())?;
    let held = match hold(services, caller.tenant, keyed.as_ref()).await? {
        Holding::Work(held) => held,
        Holding::Again(answer) => return Ok(answer),
    };
    let submission = Submission {
        tenant: caller.tenant,
        request_id: caller.request_id.clone(),
        held,
        command,
    };
    services.emails.accept(submission).await
}

/// The operations on emails.
#[derive(Debug)]
pub(crate) struct EmailsApi;

#[OpenApi(prefix_path = "/v1/emails", tag = "Tag::Emails")]
impl EmailsApi {
    /// Send an email
    ///
    /// Stores the email with one delivery for each distinct recipient address, and answers. Delivery goes on in the
    /// background: `deliveries_get` tells how. Who is in `bcc` is named in no copy.
    #[oai(path = "/", method = "post", operation_id = "emails_send")]
    async fn send(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        key: IdempotencyKey,
        body: StrictJson<NewEmail>,
    ) -> Result<Recorded<Email>, ApiError> {
        let _place = key.place(&services.in_flight, caller.tenant)?;
        let keyed = key.of("POST /v1/emails", &body.bytes);
        Ok(send(services, &caller, keyed, body.value).await?.into())
    }

    /// Send up to 100 emails
    ///
    /// Each is taken or refused by itself; `results` has one entry for each, in the order given. With an
    /// `Idempotency-Key` the whole batch can be sent again: it is answered as the first time. One that was cut off half-way goes on,
    /// and what was taken already is answered with 200 and its id.
    #[oai(path = "/batch", method = "post", operation_id = "emails_send_batch")]
    async fn send_batch(
        &self,
        Data(services): Data<&Services>,
        Data(meter): Data<&Meter>,
        caller: Authorized<may::Send>,
        key: IdempotencyKey,
        body: StrictJson<EmailBatch>,
    ) -> Result<Repeatable<Results>, ApiError> {
        let items = body.value.emails.checked("emails")?;
        meter.items(items.len()).await?;
        let operation = "POST /v1/emails/batch";
        let batch =
            match Batch::begin(services, caller.tenant, &key, operation, &body.bytes).await? {
                BatchBegun::Done(answer) => return Ok(Repeatable::again(answer)),
                BatchBegun::Work(batch) => batch,
            };
        let _place = key.place(&services.in_flight, caller.tenant)?;
        let sent = items.iter().enumerate().map(async |(index, item)| {
            let keyed = key.item(index).of(operation, item.get().as_bytes());
            send(services, &caller, keyed, read_item(item)?).await
        });
        Results::answer(&batch, join_all(sent).await, &caller.request_id).await
    }

    /// List emails
    ///
    /// With their deliveries, without their contents.
    #[oai(path = "/", method = "get", operation_id = "emails_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<Email>>, ApiError> {
        let page = Paging::new(limit.0, cursor.0).bounds();
        let emails = read::emails::list(&services.db, caller.tenant, page).await?;
        let of_page = emails.rows.iter().flat_map(|(_, deliveries)| deliveries);
        let until = HeldUntil::of(&services.db, of_page).await?;
        Reply::of(&Page::from(emails).map(|(row, its)| Email::new(&row, until.show_all(its))))
    }

    /// Get an email
    ///
    /// With its content and its deliveries.
    #[oai(path = "/:email_id", method = "get", operation_id = "emails_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// The email.
        email_id: Path<Ref<EmailKind>>,
    ) -> Result<Reply<EmailDetail>, ApiError> {
        let row = find(&services.db, caller.tenant, email_id.0.0).await?;
        let deliveries = read::deliveries::of_emails(&services.db, caller.tenant, [row.id]).await?;
        let until = HeldUntil::of(&services.db, &deliveries).await?;
        let deliveries = until.show_all(deliveries);
        let body = read::emails::body(&services.db, row.id).await?;
        Reply::of(&EmailDetail::new(row, body, deliveries))
    }

    /// Cancel an email
    ///
    /// One whose `send_at` is still to come is sent to nobody any more: its deliveries are `discarded`, with the reason
    /// `cancelled`. Once it is due it is 409 `too_late`. Cancelled twice it is answered the same.
    #[oai(
        path = "/:email_id/cancel",
        method = "post",
        operation_id = "emails_cancel"
    )]
    async fn cancel(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        _again: SafeToRepeat,
        /// The email.
        email_id: Path<Ref<EmailKind>>,
    ) -> Result<Reply<Email>, FailsWith<TooLate>> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = find(&tx, caller.tenant, email_id.0.0).await?;
        let cancelled = store::cancel::email(&tx, &row, now).await?;
        let (changed, deliveries) = deliveries::cancelled(cancelled)?;
        if changed {
            audit::record(&tx, &caller, Action::EmailCancelled, row.id, now).await?;
        }
        tx.commit().await?;
        Ok(Reply::of(&shown(&row, deliveries))?)
    }

    /// Reschedule an email
    ///
    /// Gives one whose `send_at` is still to come another time. Once it is due it is 409 `too_late`, and 409
    /// `already_cancelled` when it was cancelled.
    #[oai(
        path = "/:email_id",
        method = "patch",
        operation_id = "emails_reschedule"
    )]
    async fn reschedule(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        /// The email.
        email_id: Path<Ref<EmailKind>>,
        body: StrictJson<RescheduleEmail>,
    ) -> Result<Reply<Email>, FailsWith<(AlreadyCancelled, TooLate)>> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let mut row = find(&tx, caller.tenant, email_id.0.0).await?;
        let to = body.value.send_at;
        let mut checks = Checks::default();
        checks.due("send_at", Some(to), now);
        checks.finish()?;
        let moved = store::reschedule::email(&tx, &row, to.0, now).await?;
        let deliveries = deliveries::rescheduled(moved)?;
        row.send_at = Some(to.0);
        audit::record(&tx, &caller, Action::EmailRescheduled, row.id, now).await?;
        tx.commit().await?;
        Ok(Reply::of(&shown(&row, deliveries))?)
    }
}

fn shown(row: &store::Email, deliveries: Vec<store::Delivery>) -> Email {
    Email::new(row, deliveries.into_iter().map(Delivery::from).collect())
}

/// A tenant's email.
///
/// # Errors
/// 404 when there is none.
async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    id: EmailId,
) -> Result<store::Email, ApiError> {
    let found = read::emails::find(db, tenant, id).await?;
    found.ok_or_else(|| ApiError::not_found("email"))
}
