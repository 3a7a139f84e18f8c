//! Load: from ids to what an attempt needs, for many deliveries in a fixed number of statements. On PostgreSQL it is one
//! for webhooks (`joined.rs`); everything else, and everything on SQLite, is read table by table (`rows.rs`).
//!
//! **Guarantee.** Every delivery in the answer was `pending` when it was read. One that is missing from the answer has ended
//! or does not exist, so that nothing is left to do for it. Loading changes and locks nothing, and a kill loses nothing.
//! Because nothing is locked, a delivery may change afterwards: [`record`](super::record) and [`mark`](super::mark) change it
//! only while it is as it was loaded.
//!
//! Transitions: none.

mod joined;
mod mails;
mod rows;

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use sea_orm::DbErr;
use uuid::Uuid;

use super::{
    Circuit, Delivery, Email, EmailBody, Message, Payload, by_id, mark::Sending, schema::circuit,
};
use crate::{
    db::Database,
    delivery::EmailOnUncertain,
    ids::{DeliveryId, EndpointId, MessageId},
};

/// The condition under which a change of a loaded delivery takes effect: nobody has ended it, and no other attempt was
/// counted. It joins `deliveries` with rows that have a `delivery_id` and the count of attempts that was `seen`.
pub(super) const AS_LOADED: &str =
    "id = delivery_id AND attempt_count = seen AND status = 'pending'";

/// The version of an endpoint's row: PostgreSQL's `xmin`, the transaction that wrote it. It is a 32-bit number that comes
/// again after four billion transactions.
pub type Version = i64;

/// Circuits by their ids.
pub type Circuits = HashMap<Uuid, Arc<Circuit>>;

/// Deliveries with the rows that they name. Endpoints are not among these: a worker keeps them opened.
#[derive(Debug, Default)]
pub struct Slice {
    /// The deliveries that are pending.
    pub deliveries: Vec<Loaded>,
    /// The endpoints of the webhooks, each with the version of its row where that is known.
    pub endpoints: HashMap<EndpointId, Option<Version>>,
    /// The circuits that the deliveries go through, as far as they have a row. One that is at rest may be missing, which
    /// means the same.
    pub circuits: Circuits,
}

/// A pending delivery with its content.
#[derive(Debug)]
pub struct Loaded {
    /// The delivery's row.
    pub delivery: Delivery,
    /// The content of the delivery.
    pub content: Content,
}

/// The content of a delivery.
#[derive(Debug)]
pub enum Content {
    /// A message to an endpoint.
    Webhook {
        /// The message.
        message: Arc<Outgoing>,
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// An email to one recipient.
    Email {
        /// The email.
        email: Arc<OutgoingEmail>,
        /// The recipient's address.
        recipient: String,
        /// The tenant's choice for mails that may have been accepted.
        on_uncertain: EmailOnUncertain,
        /// The mark that an attempt has left on the delivery, if one has.
        sending: Option<Sending>,
    },
    /// A row that the delivery names does not exist.
    Missing,
}

/// A message, as much of it as sending takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The message's id.
    pub id: MessageId,
    /// The type of its event.
    pub event_type: String,
    /// The exact bytes that were published and that go out.
    pub payload: Bytes,
    /// The id of the request that published it.
    pub request_id: String,
}

/// An email with its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingEmail {
    /// The email.
    pub row: Email,
    /// Its texts.
    pub body: EmailBody,
}

impl Outgoing {
    /// A message with its payload.
    pub fn new(row: Message, payload: Payload) -> Self {
        Self {
            id: row.id,
            event_type: row.event_type,
            payload: payload.payload.into(),
            request_id: row.request_id,
        }
    }
}

/// Loads the deliveries among `ids` that are still pending. `providers` are the ids of the mail providers' circuits, which are
/// loaded when there are mails.
///
/// # Errors
/// When the database fails.
pub async fn load(db: &Database, ids: &[DeliveryId], providers: &[Uuid]) -> Result<Slice, DbErr> {
    // A delivery that came twice would be sent twice.
    let ids = distinct(ids.iter().copied());
    let mut slice = Draft::default();
    let others = match db.postgres() {
        Some(postgres) => joined::load(&postgres, &ids, &mut slice).await?,
        None => ids,
    };
    if !others.is_empty() {
        rows::load(db, &others, providers, &mut slice).await?;
    }
    let circuits = if slice.circuits.is_empty() {
        Vec::new()
    } else {
        by_id::find::<circuit::Entity>(db, distinct(slice.circuits)).await?
    };
    Ok(Slice {
        deliveries: slice.deliveries,
        endpoints: slice.endpoints,
        circuits: circuits
            .into_iter()
            .map(|row| (row.id, Arc::new(row)))
            .collect(),
    })
}

/// A slice whose circuits are still to be read.
#[derive(Default)]
struct Draft {
    deliveries: Vec<Loaded>,
    endpoints: HashMap<EndpointId, Option<Version>>,
    circuits: Vec<Uuid>,
}

/// Ids in ascending order, each once.
fn distinct<T: Ord>(ids: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
