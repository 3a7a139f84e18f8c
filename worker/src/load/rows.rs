//! Table by table, for any delivery on any database.

use std::{collections::HashMap, sync::Arc};

use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, Status},
    entities::{circuit, delivery, email, endpoint, endpoint_secret, message},
    ids::{DeliveryId, EmailId, EndpointId, MessageId},
    secrets::{Keyring, OpenError},
};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{Circuits, Credentials, Loaded, Outgoing, Target, mails};

/// Loads the deliveries among `ids` that are still pending. `keys` open what is sealed, once for each endpoint of the
/// slice, at a microsecond or two for each text.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn load(
    db: &impl ConnectionTrait,
    ids: &[DeliveryId],
    providers: &[Uuid],
    keys: &Keyring,
    now: Timestamp,
) -> Result<Vec<Loaded>, DbErr> {
    let deliveries = delivery::Entity::find()
        .filter(delivery::Column::Id.is_in(ids.iter().copied()))
        .filter(delivery::Column::Status.eq(Status::Pending))
        .all(db)
        .await?;
    let circuits = circuits_of(db, &deliveries, providers).await?;
    let webhooks = Webhooks::of(db, &deliveries, circuits.clone(), keys, now).await?;
    let emails = emails_of(db, &deliveries).await?;
    // After the deliveries: a mark that was set in between is seen, and one that was cleared came with another count of
    // attempts, with which nothing is sent.
    let handling = mails::handling(db, &deliveries).await?;
    Ok(deliveries
        .into_iter()
        .map(|delivery| {
            let target =
                match delivery.kind {
                    DeliveryKind::Webhook => webhooks.target(&delivery),
                    DeliveryKind::Email => delivery
                        .email_id
                        .zip(delivery.recipient.clone())
                        .and_then(|(id, recipient)| {
                            let handling = handling.get(&delivery.id)?;
                            Some(Target::Email {
                                email: emails.get(&id)?.clone(),
                                recipient,
                                circuits: circuits.clone(),
                                on_uncertain: handling.on_uncertain,
                                sending: handling.sending,
                            })
                        }),
                };
            Loaded {
                delivery,
                target: target.unwrap_or(Target::Missing),
            }
        })
        .collect())
}

struct Webhooks {
    messages: HashMap<MessageId, Arc<Outgoing>>,
    endpoints: HashMap<EndpointId, Arc<endpoint::Model>>,
    credentials: HashMap<EndpointId, Result<Arc<Credentials>, OpenError>>,
    circuits: Circuits,
}

impl Webhooks {
    async fn of(
        db: &impl ConnectionTrait,
        deliveries: &[delivery::Model],
        circuits: Circuits,
        keys: &Keyring,
        now: Timestamp,
    ) -> Result<Self, DbErr> {
        let messages = distinct(deliveries.iter().filter_map(|delivery| delivery.message_id));
        let endpoints = distinct(
            deliveries
                .iter()
                .filter_map(|delivery| delivery.endpoint_id),
        );
        if messages.is_empty() {
            return Ok(Self {
                messages: HashMap::new(),
                endpoints: HashMap::new(),
                credentials: HashMap::new(),
                circuits,
            });
        }
        let messages = message::Entity::find()
            .filter(message::Column::Id.is_in(messages))
            .all(db)
            .await?;
        let secrets = secrets_of(db, &endpoints, now).await?;
        let endpoints = endpoints_of(db, endpoints).await?;
        let credentials = credentials(&endpoints, &secrets, keys);
        Ok(Self {
            messages: messages
                .into_iter()
                .map(|row| (row.id, Arc::new(row.into())))
                .collect(),
            endpoints: endpoints
                .into_iter()
                .map(|row| (row.id, Arc::new(row)))
                .collect(),
            credentials,
            circuits,
        })
    }

    fn target(&self, delivery: &delivery::Model) -> Option<Target> {
        let endpoint = delivery.endpoint_id?;
        Some(Target::Webhook {
            message: self.messages.get(&delivery.message_id?)?.clone(),
            endpoint: self.endpoints.get(&endpoint)?.clone(),
            credentials: self.credentials.get(&endpoint)?.clone(),
            circuit: self.circuits.get(&endpoint.uuid()).cloned(),
        })
    }
}

/// The circuits that the deliveries go through: those of their endpoints, and of the mail providers if there are mails.
async fn circuits_of(
    db: &impl ConnectionTrait,
    deliveries: &[delivery::Model],
    providers: &[Uuid],
) -> Result<Circuits, DbErr> {
    let endpoints = deliveries
        .iter()
        .filter_map(|delivery| Some(delivery.endpoint_id?.uuid()));
    let mut ids = distinct(endpoints);
    if deliveries.iter().any(|one| one.kind == DeliveryKind::Email) {
        ids.extend(providers);
    }
    circuits(db, ids).await
}

/// These circuits, as far as there are any.
pub(super) async fn circuits(db: &impl ConnectionTrait, ids: Vec<Uuid>) -> Result<Circuits, DbErr> {
    if ids.is_empty() {
        return Ok(Circuits::default());
    }
    let rows = circuit::Entity::find()
        .filter(circuit::Column::Id.is_in(ids))
        .all(db)
        .await?;
    Ok(Arc::new(
        rows.into_iter()
            .map(|row| (row.id, Arc::new(row)))
            .collect(),
    ))
}

/// These endpoints.
pub(super) async fn endpoints_of(
    db: &impl ConnectionTrait,
    ids: Vec<EndpointId>,
) -> Result<Vec<endpoint::Model>, DbErr> {
    endpoint::Entity::find()
        .filter(endpoint::Column::Id.is_in(ids))
        .all(db)
        .await
}

/// The secrets that sign for these endpoints now, of each the newest first.
pub(super) async fn secrets_of(
    db: &impl ConnectionTrait,
    endpoints: &[EndpointId],
    now: Timestamp,
) -> Result<HashMap<EndpointId, Vec<endpoint_secret::Model>>, DbErr> {
    use endpoint_secret::{Column, Entity};
    let valid = Condition::any()
        .add(Column::ExpiresAt.is_null())
        .add(Column::ExpiresAt.gt(now));
    let mut newest_first = Entity::find()
        .filter(Column::EndpointId.is_in(endpoints.iter().copied()))
        .filter(valid)
        .all(db)
        .await?;
    newest_first.sort_by_key(|row| std::cmp::Reverse(row.id));
    let mut secrets: HashMap<EndpointId, Vec<endpoint_secret::Model>> = HashMap::new();
    for row in newest_first {
        secrets.entry(row.endpoint_id).or_default().push(row);
    }
    Ok(secrets)
}

/// Opens what is sealed of the endpoints. One without a secret has no entry.
pub(super) fn credentials(
    endpoints: &[endpoint::Model],
    secrets: &HashMap<EndpointId, Vec<endpoint_secret::Model>>,
    keys: &Keyring,
) -> HashMap<EndpointId, Result<Arc<Credentials>, OpenError>> {
    let open = |endpoint: &endpoint::Model, secrets: &[endpoint_secret::Model]| {
        let secrets: Result<Vec<String>, OpenError> =
            secrets.iter().map(|row| row.open(keys)).collect();
        Ok(Arc::new(Credentials {
            secrets: secrets?,
            headers: endpoint.open_headers(keys)?,
        }))
    };
    let with_secrets = endpoints
        .iter()
        .filter_map(|endpoint| Some((endpoint, secrets.get(&endpoint.id)?)));
    with_secrets
        .map(|(endpoint, secrets)| (endpoint.id, open(endpoint, secrets)))
        .collect()
}

async fn emails_of(
    db: &impl ConnectionTrait,
    deliveries: &[delivery::Model],
) -> Result<HashMap<EmailId, Arc<email::Model>>, DbErr> {
    let ids = distinct(deliveries.iter().filter_map(|delivery| delivery.email_id));
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = email::Entity::find()
        .filter(email::Column::Id.is_in(ids))
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.id, Arc::new(row)))
        .collect())
}

fn distinct<T: Ord>(ids: impl Iterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.collect();
    ids.sort();
    ids.dedup();
    ids
}
