//! Journeys through the whole product, from the HTTP API to the receiver or the mail server, by the binaries that
//! users run. `RELAYPOST_TEST_BACKEND` says on what they run; `make test` runs them on both backends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that panics has failed, as it should"
)]

mod bad_input;
mod circuits;
mod client_address;
mod dead_letters;
mod demo;
mod disk;
mod egress;
mod emails;
mod faults;
mod http_limits;
mod idempotency;
mod isolation;
mod journeys;
mod limits;
mod oauth;
mod people;
mod probes;
mod replays;
mod retries;
mod secrets;
mod senders;
mod settings;
mod silent;
mod slow_clients;
mod trickle;
mod uncertain;
mod verifiers;

use std::path::Path;
use std::time::Duration;

use relaypost_testkit::{Hit, World, WorldOptions};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;

/// The deadline of what should happen at once.
const SOON: Duration = Duration::from_secs(20);

fn options() -> WorldOptions {
    let binary = Path::new(env!("CARGO_BIN_EXE_relaypost"));
    WorldOptions::new(binary.parent().expect("a folder with all binaries"))
}

/// The product with these settings on top of the usual ones.
async fn world(env: &[(&str, &str)]) -> World {
    let options = env
        .iter()
        .fold(options(), |options, (name, value)| options.env(name, value));
    World::start(options).await
}

/// Whether the reference library takes the hit for signed with this secret.
fn verifies(hit: &Hit, secret: &str) -> bool {
    let headers: HeaderMap = hit
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((
                name.parse::<HeaderName>().ok()?,
                value.parse::<HeaderValue>().ok()?,
            ))
        })
        .collect();
    Webhook::new(secret)
        .expect("a usable secret")
        .verify(&hit.body, &headers)
        .is_ok()
}

/// The ids of the deliveries that a message or an email was answered with.
fn delivery_ids(accepted: &Value) -> Vec<String> {
    let deliveries = accepted["deliveries"]
        .as_array()
        .expect("a list of deliveries");
    deliveries
        .iter()
        .map(|delivery| id(delivery).to_owned())
        .collect()
}

fn id(object: &Value) -> &str {
    object["id"].as_str().expect("an id")
}
