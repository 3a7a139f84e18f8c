//! The store: the one owner of `messages`, `message_payloads`, `emails`, `email_bodies`, `deliveries`, `attempts`, `circuits`
//! and `replays`.
//!
//! Each operation is a file, whose head states what it guarantees and which transitions of a delivery it makes. The forms
//! for PostgreSQL and for SQLite stand side by side; where one statement serves both there is one.

pub mod accept;
pub mod backlog;
mod by_id;
pub mod cancel;
pub mod circuits;
pub mod claim;
pub mod discard;
pub mod endpoints;
pub mod events;
pub mod find_lost;
#[doc(hidden)]
pub mod fixtures;
pub mod load;
pub mod locks;
pub mod mark;
pub mod park;
pub mod partitions;
pub mod read;
pub mod record;
pub mod release;
pub mod replay;
pub mod replay_jobs;
pub mod reschedule;
pub mod retry;
mod schema;
pub mod test;
pub mod threshold;
pub mod turns;
mod waiting;

pub use schema::{
    attempt::Model as Attempt, circuit::Model as Circuit, delivery::Model as Delivery,
    email::Model as Email, email_body::Model as EmailBody, message::Model as Message,
    payload::Model as Payload, replay::Model as Replay,
};
