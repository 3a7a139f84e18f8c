//! Step 1: fetch everything that sending a slice of deliveries needs, in a fixed number of statements.

use std::{collections::HashMap, fmt, sync::Arc};

use relaypost_shared::{
    clock::Timestamp,
    delivery::{DeliveryKind, Status},
    entities::{Pairs, circuit, delivery, email, endpoint, endpoint_secret, message},
    ids::{DeliveryId, EndpointId},
    secrets::{Keyring, OpenError},
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

/// What is sealed of an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The secrets that sign, the newest first.
    pub secrets: Vec<String>,
    /// The endpoint's own headers.
    pub headers: Pairs,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
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
        /// What of the endpoint is sealed, opened; or why it cannot be opened.
        credentials: Result<Arc<Credentials>, OpenError>,
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
/// there is nothing to do for it. `providers` are the ids of the mail providers' circuits; `keys` open what is sealed,
/// once for each endpoint of the slice, at a microsecond or two for each text.
///
/// # Errors
/// When the database cannot be asked.
pub async fn load(
    db: &DatabaseConnection,
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
    credentials: HashMap<EndpointId, Result<Arc<Credentials>, OpenError>>,
    circuits: Circuits,
}

impl Webhooks {
    async fn of(
        db: &DatabaseConnection,
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
        let endpoints = endpoint::Entity::find()
            .filter(endpoint::Column::Id.is_in(endpoints))
            .all(db)
            .await?;
        let credentials = credentials(&endpoints, &secrets, keys);
        Ok(Self {
            messages: messages
                .into_iter()
                .map(|row| (row.id, Arc::new(row)))
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

/// The secrets that sign for these endpoints now, of each the newest first.
async fn secrets_of(
    db: &DatabaseConnection,
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
fn credentials(
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
