//! Emails: handed in once, delivered to each recipient on its own.

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
    db::begin_write,
    entities::{delivery, email},
    ids::{Email as EmailKind, EmailId, TenantId},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _, sea_query::Expr,
};

use self::body::{Email, EmailBatch, EmailDetail, NewEmail, RescheduleEmail};
pub(crate) use self::{accept::SendEmail, body::EmailContent};
use crate::{
    Services,
    accept::Submission,
    audit::{self, Action},
    auth::{Authorized, may},
    deliveries::{self, Changed, Delivery, Now},
    http::{
        ApiError, Checks, Cursor, Limit, Page, Paging, Recorded, Ref, Repeatable, Reply, Results,
        StrictJson, Text, document::Tag, read_item,
    },
    idempotency::{Accepted, Batch, BatchBegun, IdempotencyKey, Keyed},
    limits::Meter,
};

async fn send(
    services: &Services,
    caller: &Authorized<may::Send>,
    keyed: Option<Keyed>,
    email: NewEmail,
) -> Result<Accepted, ApiError> {
    let command = SendEmail::new(email, &services.settings.emails, services.clock.now())?;
    let held = match keyed {
        Some(keyed) => Some(services.in_flight.hold(caller.tenant, keyed).await?),
        None => None,
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
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
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
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
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
        let emails = email::Entity::of_tenant(caller.tenant);
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, emails, email::Column::Id, |row| row.id)
            .await?;
        let ids: Vec<EmailId> = page.data.iter().map(|row| row.id).collect();
        let of_page = delivery::Column::EmailId.is_in(ids);
        let mut deliveries: HashMap<Option<EmailId>, Vec<Delivery>> = HashMap::new();
        for row in deliveries::load_all(&services.db, caller.tenant, of_page).await? {
            deliveries.entry(row.email_id).or_default().push(row.into());
        }
        Reply::of(&page.map(|row| {
            let its = deliveries.remove(&Some(row.id)).unwrap_or_default();
            Email::new(&row, its)
        }))
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
        let its = delivery::Column::EmailId.eq(row.id);
        let deliveries = deliveries::load_all(&services.db, caller.tenant, its).await?;
        let deliveries = deliveries.into_iter().map(Delivery::from).collect();
        Reply::of(&EmailDetail::new(row, deliveries))
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
        /// The email.
        email_id: Path<Ref<EmailKind>>,
    ) -> Result<Changed<Email>, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = find(&tx, caller.tenant, email_id.0.0).await?;
        let its = delivery::Column::EmailId.eq(row.id);
        let Now {
            changed,
            deliveries,
        } = deliveries::cancel(&tx, caller.tenant, its, row.send_at, now).await?;
        if changed {
            audit::record(&tx, &caller, Action::EmailCancelled, row.id, now).await?;
        }
        tx.commit().await?;
        Reply::of(&shown(&row, deliveries)).map(Changed)
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
    ) -> Result<Changed<Email>, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let mut row = find(&tx, caller.tenant, email_id.0.0).await?;
        let to = body.value.send_at;
        let mut checks = Checks::default();
        checks.due("send_at", Some(to), now);
        checks.finish()?;
        let its = delivery::Column::EmailId.eq(row.id);
        let Now { deliveries, .. } =
            deliveries::reschedule(&tx, caller.tenant, its, row.send_at, to.0, now).await?;
        email::Entity::update_many()
            .col_expr(email::Column::SendAt, Expr::value(to.0))
            .filter(email::Column::Id.eq(row.id))
            .exec(&tx)
            .await?;
        row.send_at = Some(to.0);
        audit::record(&tx, &caller, Action::EmailRescheduled, row.id, now).await?;
        tx.commit().await?;
        Reply::of(&shown(&row, deliveries)).map(Changed)
    }
}

fn shown(row: &email::Model, deliveries: Vec<delivery::Model>) -> Email {
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
) -> Result<email::Model, ApiError> {
    email::Entity::of_tenant(tenant)
        .filter(email::Column::Id.eq(id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("email"))
}
