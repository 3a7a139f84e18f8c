//! Emails: handed in once, delivered to each recipient on its own.

mod accept;
mod address;
mod body;

use std::collections::HashMap;

use futures::future::join_all;
use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    entities::{delivery, email},
    ids::{Email as EmailKind, EmailId},
};
use sea_orm::{ColumnTrait as _, QueryFilter as _};

use self::body::{Email, EmailBatch, EmailDetail, NewEmail};
pub(crate) use self::{accept::SendEmail, body::EmailContent};
use crate::{
    Services,
    accept::Submission,
    auth::{Authorized, may},
    deliveries::{self, Delivery},
    http::{
        ApiError, Cursor, Items, Limit, Page, Paging, Recorded, Ref, Reply, Results, StrictJson,
        Text, document::Tag,
    },
    idempotency::{Accepted, IdempotencyKey, Keyed},
};

/// Emails in one batch at most.
const MAX_BATCH: usize = 100;

async fn send(
    services: &Services,
    caller: &Authorized<may::Send>,
    keyed: Option<Keyed>,
    email: NewEmail,
) -> Result<Accepted, ApiError> {
    let submission = Submission {
        tenant: caller.tenant,
        request_id: caller.request_id.clone(),
        keyed,
        command: SendEmail::new(email, &services.settings.emails, services.clock.now())?,
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
        let keyed = key.of("POST /v1/emails", &body.bytes);
        Ok(send(services, &caller, keyed, body.value).await?.into())
    }

    /// Send up to 100 emails
    ///
    /// Each is taken or refused by itself; `results` has one entry for each, in the order given. With an
    /// `Idempotency-Key` the whole batch can be sent again: what was taken already is answered with 200 and its id.
    #[oai(path = "/batch", method = "post", operation_id = "emails_send_batch")]
    async fn send_batch(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Send>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<EmailBatch>,
    ) -> Result<Reply<Results>, ApiError> {
        let items = body.value.emails.up_to(MAX_BATCH, "emails")?;
        let sent = items.iter().enumerate().map(async |(index, item)| {
            let keyed = key
                .item(index)
                .of("POST /v1/emails/batch", item.get().as_bytes());
            send(services, &caller, keyed, Items::read(item)?).await
        });
        Reply::of(&Results::new(join_all(sent).await, &caller.request_id))
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
        let row = email::Entity::of_tenant(caller.tenant)
            .filter(email::Column::Id.eq(email_id.0.0))
            .one(&services.db)
            .await?
            .ok_or_else(|| ApiError::not_found("email"))?;
        let its = delivery::Column::EmailId.eq(row.id);
        let deliveries = deliveries::load_all(&services.db, caller.tenant, its).await?;
        let deliveries = deliveries.into_iter().map(Delivery::from).collect();
        Reply::of(&EmailDetail::new(row, deliveries))
    }
}
