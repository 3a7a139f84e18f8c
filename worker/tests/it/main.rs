//! The worker's steps against a real database, a listening HTTP server and a listening mail server, on a clock that
//! stands still until a test moves it. The backend comes from `RELAYPOST_TEST_BACKEND`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a broken fixture should stop the test where it breaks"
)]

mod circuits;
mod dispatch;
mod drains;
mod egress;
mod emails;
mod fast_paths;
mod fixture;
mod hostile;
mod interleavings;
mod journeys;
mod parked;
mod parking;
mod providers;
mod prune;
mod raw;
mod recover;
mod replay_jobs;
mod replays;
mod restarts;
mod secrets;
mod store;
mod sweep;
mod uncertain;
mod webhooks;
