//! Step 1: fetch everything that sending a slice of deliveries needs, in a fixed number of statements: one on PostgreSQL,
//! for webhooks to endpoints that are known already. The store loads the deliveries; this module adds their endpoints.

mod endpoints;

use std::{collections::HashMap, fmt, sync::Arc};

use relaypost_shared::{
    clock::Timestamp,
    db::Database,
    delivery::EmailOnUncertain,
    entities::{Pairs, endpoint},
    ids::{DeliveryId, EndpointId},
    secrets::{Keyring, OpenError},
    store::{
        Circuit, Delivery,
        load::{self, Circuits, Content, Outgoing, OutgoingEmail},
        mark::Sending,
    },
};
use sea_orm::DbErr;
use uuid::Uuid;

use endpoints::{Endpoints, Known};

/// A pending delivery with what it delivers.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The delivery's row.
    pub delivery: Delivery,
    /// What is sent, and where to.
    pub target: Target,
}

impl Loaded {
    /// The id of the request that made the delivery.
    pub(crate) fn request_id(&self) -> &str {
        match &self.target {
            Target::Webhook { message, .. } => &message.request_id,
            Target::Email { email, .. } => &email.row.request_id,
            Target::Missing => "",
        }
    }
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

/// What is sent, and where to.
#[derive(Clone, Debug)]
pub enum Target {
    /// A message to an endpoint.
    Webhook {
        /// The message.
        message: Arc<Outgoing>,
        /// Where it goes.
        endpoint: Arc<endpoint::Model>,
        /// What of the endpoint is sealed, opened; or why it cannot be opened.
        credentials: Result<Arc<Credentials>, OpenError>,
        /// The endpoint's circuit, if it has one.
        circuit: Option<Arc<Circuit>>,
    },
    /// An email to one recipient.
    Email {
        /// The email.
        email: Arc<OutgoingEmail>,
        /// The recipient's address.
        recipient: String,
        /// The circuits of the mail providers, as far as they have any.
        circuits: Arc<Circuits>,
        /// What its tenant chose for mails that may have been accepted.
        on_uncertain: EmailOnUncertain,
        /// The mark that an attempt has left on it, if one has.
        sending: Option<Sending>,
    },
    /// A row that the delivery needs does not exist.
    Missing,
}

/// Loads deliveries. Clones share what they remember.
#[derive(Clone, Debug)]
pub struct Loader {
    db: Database,
    providers: Arc<[Uuid]>,
    endpoints: Arc<Endpoints>,
}

impl Loader {
    /// A loader that opens what is sealed with `keys`. `providers` are the ids of the mail providers' circuits.
    pub fn new(db: Database, providers: Arc<[Uuid]>, keys: Keyring) -> Self {
        Self {
            db,
            providers,
            endpoints: Arc::new(Endpoints::new(keys)),
        }
    }

    /// Loads the deliveries among `ids` that are still pending. What is missing from the answer is finished or unknown:
    /// there is nothing to do for it.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn load(&self, ids: &[DeliveryId], now: Timestamp) -> Result<Vec<Loaded>, DbErr> {
        let slice = load::load(&self.db, ids, &self.providers).await?;
        let known = self.endpoints.of(&self.db, &slice.endpoints, now);
        let known = known.await?;
        let rows = Rows {
            known,
            providers: self.circuits_of_providers(&slice.circuits),
            circuits: slice.circuits,
        };
        let deliveries = slice.deliveries.into_iter();
        Ok(deliveries.map(|one| rows.complete(one)).collect())
    }

    fn circuits_of_providers(&self, circuits: &Circuits) -> Arc<Circuits> {
        let of_providers = self
            .providers
            .iter()
            .filter_map(|id| Some((*id, circuits.get(id)?.clone())));
        Arc::new(of_providers.collect())
    }
}

/// The rows that a slice's deliveries go by, besides those of their contents.
struct Rows {
    known: HashMap<EndpointId, Known>,
    circuits: Circuits,
    providers: Arc<Circuits>,
}

impl Rows {
    fn complete(&self, load::Loaded { delivery, content }: load::Loaded) -> Loaded {
        let target = match content {
            Content::Webhook { message, endpoint } => self.webhook(message, endpoint),
            Content::Email {
                email,
                recipient,
                on_uncertain,
                sending,
            } => Target::Email {
                email,
                recipient,
                circuits: self.providers.clone(),
                on_uncertain,
                sending,
            },
            Content::Missing => Target::Missing,
        };
        Loaded { delivery, target }
    }

    /// An endpoint without a secret cannot be sent anything.
    fn webhook(&self, message: Arc<Outgoing>, id: EndpointId) -> Target {
        let Some(Known {
            endpoint,
            credentials: Some(credentials),
        }) = self.known.get(&id)
        else {
            return Target::Missing;
        };
        Target::Webhook {
            message,
            endpoint: endpoint.clone(),
            credentials: credentials.clone(),
            circuit: self.circuits.get(&id.uuid()).cloned(),
        }
    }
}
