//! What the API and the worker processes must agree on: ids, clock, settings, tables, the life of a delivery,
//! the queue and the telemetry. Anything that only one of the two needs lives in that one.

// First: the others use its macro.
#[macro_use]
mod words;

pub mod batch;
pub mod circuit;
pub mod clock;
pub mod db;
pub mod delivery;
pub mod entities;
pub mod events;
pub mod files;
pub mod headers;
pub mod health;
pub mod ids;
pub mod mail_address;
pub mod people;
pub mod queue;
pub mod replay;
pub mod scaling;
pub mod secrets;
pub mod serve;
pub mod settings;
pub mod shutdown;
pub mod ssrf;
pub mod store;
pub mod telemetry;

/// The version that every process reports, in `User-Agent` and in the OpenAPI document.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
