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
mod ssrf;
mod ssrf_names;
mod ssrf_spellings;
mod support;
