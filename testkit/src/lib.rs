//! What the integration tests of every crate share: real servers that stand in for the outside world (a webhook
//! [`Receiver`], an [`SmtpServer`]), the services the product needs ([`RedisServer`], [`TestDatabase`]), what they can
//! suffer (a [`Relay`] that goes silent, a [`SmallDisk`] that gets full), and a [`World`] that starts the product's own binaries against them and speaks to its HTTP API.
//!
//! Nothing here sleeps: every wait names what it waits for and a deadline, and panics with what it saw instead.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test support: a broken harness should stop the test where it breaks"
)]

pub mod api;
pub mod database;
pub mod disk;
pub mod identity;
mod options;
pub mod process;
pub mod receiver;
pub mod redis;
pub mod relay;
pub mod report;
pub mod secrets;
mod settings;
pub mod smtp;
pub mod stack;
pub mod tenant;
pub mod wait;

pub use api::{Answer, Api, tls_provider};
pub use database::TestDatabase;
pub use disk::SmallDisk;
pub use process::Proc;
pub use receiver::{Hit, Receiver, Reply};
pub use redis::RedisServer;
pub use relay::{Relay, Silence};
pub use report::{note, skip};
pub use secrets::Secrets;
pub use settings::production;
pub use smtp::{Mail, SmtpServer, Stage};
pub use stack::{Backend, ROOT_API_KEY, World, WorldOptions};
pub use tenant::Tenant;
pub use wait::eventually;
