//! The HTTP API of Relaypost.
//!
//! Each folder is a feature with its operations, its types and its queries; `http`, `auth`, `idempotency` and `accept`
//! are what they share. A new operation is a method with `#[oai]` in its slice; a new slice is listed in `routes.rs`.

mod accept;
mod api_keys;
mod audit;
mod audit_log;
mod auth;
mod dead_letters;
mod deliveries;
mod emails;
mod endpoints;
mod event_types;
mod health;
mod http;
mod idempotency;
mod limits;
mod messages;
mod oauth;
mod operations;
mod people;
mod replays;
mod routes;
mod server;
mod services;
mod stats;
mod tenants;

pub use routes::{app, openapi};
pub use server::serve;
pub use services::Services;
