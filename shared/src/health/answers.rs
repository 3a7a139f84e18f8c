//! What probes are answered, the same by the API and by workers.

use chrono::SecondsFormat;
use poem::{Response, http::StatusCode};
use serde_json::{Value, json};

use super::Health;
use crate::clock::Timestamp;

/// Whether the process's loops turn: 200, or 503 with those that hang.
pub async fn live(health: &Health, now: Timestamp) -> Response {
    let timestamp = now.to_rfc3339_opts(SecondsFormat::Millis, true);
    match health.liveness().await {
        Ok(()) => answer(true, &json!({"status": "ok", "timestamp": timestamp})),
        Err(stuck) => answer(
            false,
            &json!({"status": "stuck", "timestamp": timestamp, "loops": stuck}),
        ),
    }
}

/// Whether the process can do its work: 200 or 503, with every check.
pub async fn ready(health: &Health) -> Response {
    let readiness = health.readiness().await;
    answer(readiness.is_ready(), &readiness.body())
}

fn answer(well: bool, body: &Value) -> Response {
    let status = match well {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    Response::builder()
        .status(status)
        .content_type("application/json")
        .body(body.to_string())
}
