//! What a figure was measured on.

use std::{fs, process::Command};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{postgres::Postgres, stack::Stack};

/// Settings of PostgreSQL that decide what a commit costs.
const SETTINGS: [&str; 8] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "shared_preload_libraries",
    "pg_stat_statements.track",
];

/// The machine, the services, and the commit.
pub(crate) async fn facts(stack: &mut Stack) -> Result<Value> {
    let version: String = stack
        .postgres
        .get("SELECT current_setting('server_version')")
        .await?;
    let redis = stack.world.redis().command(&["INFO", "server"]).await;
    let redis_version = redis
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    Ok(json!({
        "cores": std::thread::available_parallelism()?.get(),
        "processor": field("/proc/cpuinfo", "model name"),
        "memory": field("/proc/meminfo", "MemTotal"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "postgresql": version,
        "postgresql_settings": settings(&stack.postgres).await?,
        "redis": redis_version.unwrap_or_default().trim(),
        "binaries_built_before": std::env::var_os("BENCH_BIN_DIR").is_some(),
        "commit": commit(),
    }))
}

async fn settings(postgres: &Postgres) -> Result<Value> {
    let mut settings = json!({});
    for name in SETTINGS {
        let value: Option<String> = postgres
            .get(&format!("SELECT current_setting('{name}', true)"))
            .await?;
        settings[name] = value.into();
    }
    Ok(settings)
}

/// What follows the name in a file of lines `name : value`.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

/// The commit that was measured, and whether something was changed since.
fn commit() -> String {
    let described = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let text = described.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}
