//! What the processes share, against real services.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken fixture should stop the test where it breaks"
)]

mod circuit;
mod queue;
mod queue_limits;
mod queue_model;
mod queue_turns;
mod support;
