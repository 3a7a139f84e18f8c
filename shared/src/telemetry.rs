//! Logs: JSON in production, for people in development, always on standard error. Standard output belongs to what a
//! command was asked to print.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use crate::settings::{AppEnv, Settings};

/// Starts logging for this process. A second call changes nothing.
pub fn start(settings: &Settings) {
    let filter = EnvFilter::try_new(&settings.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    // Already started: one process runs several parts in the embedded mode.
    let _ = match settings.env {
        AppEnv::Production => logs
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .try_init(),
        AppEnv::Development => logs.with_ansi(stderr().is_terminal()).try_init(),
    };
}
