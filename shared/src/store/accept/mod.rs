//! Accepts new messages and emails: each with its deliveries and, where its request had an `Idempotency-Key`, with the
//! answer to repeat. Many submissions share one write.
//!
//! Guarantee: when a call returns [`Outcome::Stored`] for an entry (and, for [`in_transaction`], its transaction has
//! committed), the content, all of its deliveries and its key are stored; otherwise none of them is. A process that is
//! killed leaves all of an entry or nothing. For each key that has not expired one entry is stored, however many processes
//! use it at the same time.
//!
//! Transition: `accepted`, from nothing to `pending`.
//!
//! There are two forms. [`at_once`] is one statement of PostgreSQL, in which a key that is new costs no further round trip.
//! [`in_transaction`] serves SQLite, what is too large for one statement, and callers that write other tables in the same
//! transaction.

mod at_once;
mod columns;
mod content;
pub mod keys;
mod new;
mod transaction;

use std::collections::HashSet;

use sea_orm::DbErr;

use self::keys::Key;
use super::Delivery;
use crate::entities::idempotency_key;

pub use at_once::{Query, Written, at_once};
pub use content::Content;
pub(in crate::store) use new::new_delivery;
pub use new::{to_endpoint, to_recipient};
pub use transaction::in_transaction;

/// One submission: the row of a message or an email, and what is stored with it.
#[derive(Clone, Debug)]
pub struct Entry<R: Content> {
    /// The message or the email.
    pub row: R,
    /// Its payload or its texts.
    pub body: R::Body,
    /// Its deliveries, made by [`to_endpoint`] or [`to_recipient`].
    pub deliveries: Vec<Delivery>,
    /// The key that its request had. The entry is stored only if the key is free.
    pub key: Option<Key>,
}

/// The result for one entry.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The entry was stored.
    Stored,
    /// Nothing of the entry was stored, because the catalog of its tenant has another edition than the one given.
    Stale,
    /// Nothing of the entry was stored, because its key was used before. This is what is remembered for the key.
    Known(Box<idempotency_key::Model>),
    /// Nothing of the entry was stored, because another transaction or an earlier entry of the same call uses its key.
    InUse,
    /// Nothing of the entry was stored. Its key is not free, and what is remembered for it could not be read.
    Unread(DbErr),
}

/// For each entry, whether its key was given by an earlier entry of the same call. One statement cannot tell two such
/// entries apart.
fn repeated<R: Content>(entries: &[Entry<R>]) -> Vec<bool> {
    let mut seen = HashSet::new();
    let keys = entries.iter().map(|entry| entry.key.as_ref());
    keys.map(|key| key.is_some_and(|key| !seen.insert(key.name())))
        .collect()
}
