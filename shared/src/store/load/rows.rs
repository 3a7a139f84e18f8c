//! Table by table, for any delivery on any database.

use std::{collections::HashMap, sync::Arc};

use sea_orm::{ConnectionTrait, DbErr};
use uuid::Uuid;

use super::{Content, Draft, Loaded, Outgoing, OutgoingEmail, distinct, mails};
use crate::{
    delivery::DeliveryKind,
    ids::{DeliveryId, EmailId, MessageId},
    store::{
        Delivery, EmailBody, Payload, by_id,
        schema::{delivery, email, email_body, message, payload},
    },
};

/// Emails that have their texts.
type Emails = HashMap<EmailId, Arc<OutgoingEmail>>;

/// Loads the deliveries among `ids` that are still pending into `slice`.
pub(super) async fn load(
    db: &impl ConnectionTrait,
    ids: &[DeliveryId],
    providers: &[Uuid],
    slice: &mut Draft,
) -> Result<(), DbErr> {
    let ids = ids.iter().map(|id| id.uuid());
    let deliveries = by_id::find_where::<delivery::Entity>(db, ids, "status = 'pending'").await?;
    let messages = messages_of(db, &deliveries).await?;
    let emails = emails_of(db, &deliveries).await?;
    // After the deliveries: a mark that was set in between is seen, and one that was cleared came with another count of
    // attempts, with which nothing is sent.
    let handling = mails::handling(db, &deliveries).await?;
    for delivery in deliveries {
        let content = match delivery.kind {
            DeliveryKind::Webhook => webhook(&delivery, &messages),
            DeliveryKind::Email => handling
                .get(&delivery.id)
                .and_then(|handling| mail(&delivery, &emails, handling)),
        };
        match &content {
            Some(Content::Webhook { endpoint, .. }) => {
                slice.endpoints.entry(*endpoint).or_default();
                slice.circuits.push(endpoint.uuid());
            }
            Some(Content::Email { .. }) => slice.circuits.extend(providers),
            Some(Content::Missing) | None => {}
        }
        slice.deliveries.push(Loaded {
            delivery,
            content: content.unwrap_or(Content::Missing),
        });
    }
    Ok(())
}

fn webhook(delivery: &Delivery, messages: &HashMap<MessageId, Arc<Outgoing>>) -> Option<Content> {
    Some(Content::Webhook {
        message: messages.get(&delivery.message_id?)?.clone(),
        endpoint: delivery.endpoint_id?,
    })
}

fn mail(delivery: &Delivery, emails: &Emails, handling: &mails::Handling) -> Option<Content> {
    Some(Content::Email {
        email: emails.get(&delivery.email_id?)?.clone(),
        recipient: delivery.recipient.clone()?,
        on_uncertain: handling.on_uncertain,
        sending: handling.sending,
    })
}

async fn messages_of(
    db: &impl ConnectionTrait,
    deliveries: &[Delivery],
) -> Result<HashMap<MessageId, Arc<Outgoing>>, DbErr> {
    let ids = deliveries.iter().filter_map(|delivery| delivery.message_id);
    let ids = distinct(ids.map(MessageId::uuid));
    let rows = by_id::find::<message::Entity>(db, ids.clone()).await?;
    let payloads = by_id::find::<payload::Entity>(db, ids).await?;
    let mut payloads: HashMap<MessageId, Payload> = payloads
        .into_iter()
        .map(|row| (row.message_id, row))
        .collect();
    let outgoing = rows.into_iter().filter_map(|row| {
        let payload = payloads.remove(&row.id)?;
        Some((row.id, Arc::new(Outgoing::new(row, payload))))
    });
    Ok(outgoing.collect())
}

async fn emails_of(db: &impl ConnectionTrait, deliveries: &[Delivery]) -> Result<Emails, DbErr> {
    let ids = deliveries.iter().filter_map(|delivery| delivery.email_id);
    let ids = distinct(ids.map(EmailId::uuid));
    let rows = by_id::find::<email::Entity>(db, ids.clone()).await?;
    let bodies = by_id::find::<email_body::Entity>(db, ids).await?;
    let mut bodies: HashMap<EmailId, EmailBody> =
        bodies.into_iter().map(|row| (row.email_id, row)).collect();
    let emails = rows.into_iter().filter_map(|row| {
        let body = bodies.remove(&row.id)?;
        Some((row.id, Arc::new(OutgoingEmail { row, body })))
    });
    Ok(emails.collect())
}
