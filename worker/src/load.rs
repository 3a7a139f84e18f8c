//! Step 1: fetch everything that sending a slice of deliveries needs, in a fixed number of statements.

use std::{collections::HashMap, sync::Arc};

use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, Status},
    entities::{circuit, delivery, email, endpoint, endpoint_secret, message},
    ids::{DeliveryId, EndpointId},
};
use uuid::Uuid;

use sea_orm::{ColumnTrait, Condition, DatabaseConnection, DbErr, EntityTrait, QueryFilter};

/// A pending delivery with what it delivers.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The delivery's row.
    pub delivery: delivery::Model,
    /// What is sent, and where to.
    pub target: Target,
}

/// Circuits of a slice.
type Circuits = Arc<HashMap<Uuid, Arc<circuit::Model>>>;

/// What is sent, and where to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A message to an endpoint.
    Webhook {
        /// The message.
        message: Arc<message::Model>,
        /// Where it goes.
        endpoint: Arc<endpoint::Model>,
        /// The secrets that sign it, the newest first.
        secrets: Arc<[String]>,
        /// The endpoint's circuit, if it has one.
        circuit: Option<Arc<circuit::Model>>,
    },
    /// An email to one recipient.
    Email {
        /// The email.
        email: Arc<email::Model>,
        /// The recipient's address.
        recipient: String,
        /// The circuits of the mail providers, as far as they have any.
        circuits: Circuits,
    },
    /// A row that the delivery needs does not exist.
    Missing,
}

/// Loads the deliveries among `ids` that are still pending. What is missing from the answer is finished or unknown:
/// there is nothing to do for it. `providers` are the ids of the mail providers' circuits.
///
/// # Errors
/// When the database cannot be asked.
pub async fn load(
    db: &DatabaseConnection,
    ids: &[DeliveryId],
    providers: &[Uuid],
    now: Timestamp,
) -> Result<Vec<Loaded>, DbErr> {
    let deliveries = delivery::Entity::find()
        .filter(delivery::Column::Id.is_in(ids.iter().copied()))
        .filter(delivery::Column::Status.eq(Status::Pending))
        .all(db)
        .await?;
    let circuits = circuits_of(db, &deliveries, providers).await?;
    let webhooks = Webhooks::of(db, &deliveries, circuits.clone(), now).await?;
    let emails = emails_of(db, &deliveries).await?;
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
                            Some(Target::Email {
                                email: emails.get(&id)?.clone(),
                                recipient,
                                circuits: circuits.clone(),
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
    messages: HashMap<relaypost_shared::ids::MessageId, Arc<message::Model>>,
    endpoints: HashMap<EndpointId, Arc<endpoint::Model>>,
    secrets: HashMap<EndpointId, Arc<[String]>>,
    circuits: Circuits,
}

impl Webhooks {
    async fn of(
        db: &DatabaseConnection,
        deliveries: &[delivery::Model],
        circuits: Circuits,
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
                secrets: HashMap::new(),
                circuits,
            });
        }
        let messages = message::Entity::find()
            .filter(message::Column::Id.is_in(messages))
            .all(db)
            .await?;
        let secrets = secrets_of(db, &endpoints, now).await?;
        let endpoints = endpoint::Entity::find()
            .filter(endpoint::Column::Id.is_in(endpoints))
            .all(db)
            .await?;
        Ok(Self {
            messages: messages
                .into_iter()
                .map(|row| (row.id, Arc::new(row)))
                .collect(),
            endpoints: endpoints
                .into_iter()
                .map(|row| (row.id, Arc::new(row)))
                .collect(),
            secrets,
            circuits,
        })
    }

    fn target(&self, delivery: &delivery::Model) -> Option<Target> {
        let endpoint = delivery.endpoint_id?;
        Some(Target::Webhook {
            message: self.messages.get(&delivery.message_id?)?.clone(),
            endpoint: self.endpoints.get(&endpoint)?.clone(),
            secrets: self.secrets.get(&endpoint)?.clone(),
            circuit: self.circuits.get(&endpoint.uuid()).cloned(),
        })
    }
}

/// The circuits that the deliveries go through: those of their endpoints, and of the mail providers if there are mails.
async fn circuits_of(
    db: &DatabaseConnection,
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

async fn secrets_of(
    db: &DatabaseConnection,
    endpoints: &[EndpointId],
    now: Timestamp,
) -> Result<HashMap<EndpointId, Arc<[String]>>, DbErr> {
    use endpoint_secret::{Column, Entity};
    let valid = Condition::any()
        .add(Column::ExpiresAt.is_null())
        .add(Column::ExpiresAt.gt(now));
    let rows = Entity::find()
        .filter(Column::EndpointId.is_in(endpoints.iter().copied()))
        .filter(valid)
        .all(db)
        .await?;
    let mut newest_first = rows;
    newest_first.sort_by_key(|row| std::cmp::Reverse(row.id));
    let mut secrets: HashMap<EndpointId, Vec<String>> = HashMap::new();
    for row in newest_first {
        secrets.entry(row.endpoint_id).or_default().push(row.secret);
    }
    Ok(secrets
        .into_iter()
        .map(|(id, list)| (id, list.into()))
        .collect())
}

async fn emails_of(
    db: &DatabaseConnection,
    deliveries: &[delivery::Model],
) -> Result<HashMap<relaypost_shared::ids::EmailId, Arc<email::Model>>, DbErr> {
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
