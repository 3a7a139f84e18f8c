//! The API as its users see it, in process: requests go in, answers come out, and the database is looked into where an
//! answer does not show what was promised. `RELAYPOST_TEST_BACKEND` says whether that is SQLite or PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that panics has failed, as it should"
)]

mod accept;
mod audit_log;
mod batches;
mod bodies;
mod browsers;
mod client_address;
mod clocks;
mod cursors;
mod dead;
mod declared;
mod deliveries;
mod demo;
mod dlq;
mod document;
mod elsewhere;
mod emails;
mod endpoints;
mod event_types;
mod external_ids;
mod faults;
mod health;
mod idempotency;
mod idempotency_running;
mod keys;
mod limits;
mod lockout;
mod mailed;
mod members;
mod messages;
mod oauth;
mod operations;
mod pages;
mod parameters;
mod partitions;
mod permissions;
mod platform_types;
mod problems;
mod recover;
mod replay;
mod replay_jobs;
mod schema_costs;
mod secrets;
mod sessions;
mod sign_in;
mod signing;
mod ssrf;
mod support;
mod things;
mod timeouts;
mod users;
mod waiting;

use support::{Answer, Api, api, id};
