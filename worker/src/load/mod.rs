//! Step 1: fetch everything that sending a slice of deliveries needs, in a fixed number of statements: one on PostgreSQL,
//! for webhooks to endpoints that are known already.

mod endpoints;
mod joined;
mod mails;
mod rows;

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use relaypost_shared::{
    clock::Timestamp,
    db::Database,
    delivery::EmailOnUncertain,
    entities::{Pairs, circuit, delivery, email, endpoint, message},
    ids::{DeliveryId, MessageId},
    secrets::{Keyring, OpenError},
};
use sea_orm::DbErr;
use uuid::Uuid;

use endpoints::Endpoints;

pub use mails::Sending;

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

/// A message, as much of it as sending takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id.
    pub id: MessageId,
    /// What kind of event it is.
    pub event_type: String,
    /// The exact bytes that were published and that go out.
    pub payload: Bytes,
    /// The id of the request that published it.
    pub request_id: String,
}

impl From<message::Model> for Outgoing {
    fn from(row: message::Model) -> Self {
        Self {
            id: row.id,
            event_type: row.event_type,
            payload: row.payload.into(),
            request_id: row.request_id,
        }
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
        let Some(postgres) = self.db.postgres() else {
            return self.load_rows(ids, now).await;
        };
        let mut loaded = joined::load(&self.db, &postgres, &self.endpoints, ids, now).await?;
        if !loaded.others.is_empty() {
            let others = self.load_rows(&loaded.others, now).await?;
            loaded.webhooks.extend(others);
        }
        Ok(loaded.webhooks)
    }

    async fn load_rows(&self, ids: &[DeliveryId], now: Timestamp) -> Result<Vec<Loaded>, DbErr> {
        rows::load(&self.db, ids, &self.providers, self.endpoints.keys(), now).await
    }
}
