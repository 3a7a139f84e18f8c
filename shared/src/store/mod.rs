//! The store: the one owner of `messages`, `emails`, `deliveries`, `attempts`, `circuits` and `replays`.
//!
//! Each operation is a file, whose head states what it guarantees and which transitions of a delivery it makes. The forms
//! for PostgreSQL and for SQLite stand side by side; where one statement serves both there is one.

pub mod schema;

pub use schema::{
    attempt::Model as Attempt, circuit::Model as Circuit, delivery::Model as Delivery,
    email::Model as Email, message::Model as Message, replay::Model as Replay,
};
