//! The harness itself, against plain clients.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod disk;
mod process;
mod receiver;
mod relay;
mod smtp;
mod world;

use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
