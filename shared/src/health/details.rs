//! What operators see of a process: more than a probe says, and for fewer eyes.

use std::time::Duration;

use chrono::TimeDelta;
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr};
use serde::Serialize;
use tokio::time::timeout;

use super::{Found, Health, LoopState, Readiness};
use crate::{
    VERSION,
    clock::Clock,
    db::{self, Database},
    queue::Queue,
    scaling::Work,
    store::circuits,
};

/// How long each part of the details may take. What takes longer is left out.
const LIMIT: Duration = Duration::from_secs(2);
/// Up to how many open circuits are counted.
pub const CIRCUITS_COUNTED: i64 = 1_000;

/// How a part that the process needs is doing.
#[derive(Clone, Debug, Serialize)]
pub struct Component {
    /// `ok` or `failed`.
    pub status: &'static str,
    /// How long it took to answer, in milliseconds.
    pub latency_ms: f64,
    /// Why it has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<Found> for Component {
    fn from(found: Found) -> Self {
        let status = if found.result.is_ok() { "ok" } else { "failed" };
        Self {
            status,
            latency_ms: (found.took.as_secs_f64() * 10_000.0).round() / 10.0,
            reason: found.result.err(),
        }
    }
}

/// Everything about a process. What could not be found out in time is absent.
#[derive(Debug, Serialize)]
pub struct Details {
    status: &'static str,
    version: &'static str,
    checks: serde_json::Value,
    components: Components,
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<Work>,
    #[serde(skip_serializing_if = "Option::is_none")]
    circuits_open: Option<i64>,
    /// How far the database's clock is ahead of this process's.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_offset_ms: Option<i64>,
    loops: Vec<LoopState>,
}

#[derive(Debug, Serialize)]
struct Components {
    database: Component,
    redis: Component,
}

impl Details {
    /// How the process is doing. `default_cap` is how many deliveries may be under way to an endpoint that says nothing
    /// about it.
    pub async fn of(
        health: &Health,
        db: &Database,
        queue: &Queue,
        clock: &Clock,
        default_cap: u32,
    ) -> Self {
        let work = async {
            let now = db::now(db, clock).await.ok()?;
            Work::at(db, queue, now, default_cap).await.ok()
        };
        let (readiness, database, redis, lanes, circuits_open, clock_offset_ms) = tokio::join!(
            health.readiness(),
            health.database(),
            health.queue(),
            in_time(work),
            in_time(async { open_circuits(db).await.ok() }),
            in_time(async { clock_offset(db, &clock.of_machine()).await.ok() }),
        );
        Self {
            status: status(&readiness),
            version: VERSION,
            checks: readiness.body()["checks"].clone(),
            components: Components {
                database: database.into(),
                redis: redis.into(),
            },
            lanes,
            circuits_open,
            clock_offset_ms: clock_offset_ms.map(|offset| offset.num_milliseconds()),
            loops: health.loops().states(),
        }
    }
}

fn status(readiness: &Readiness) -> &'static str {
    match readiness.is_ready() {
        true => "ready",
        false => "not_ready",
    }
}

async fn in_time<T>(part: impl Future<Output = Option<T>>) -> Option<T> {
    timeout(LIMIT, part).await.ok().flatten()
}

/// Counts the circuits that are open or half-open, up to [`CIRCUITS_COUNTED`].
///
/// # Errors
/// When the database fails.
pub async fn open_circuits(db: &Database) -> Result<i64, DbErr> {
    circuits::count_open(db, CIRCUITS_COUNTED).await
}

/// How far the database's clock is ahead. SQLite's is this machine's.
async fn clock_offset(db: &Database, clock: &Clock) -> Result<TimeDelta, DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(TimeDelta::zero());
    }
    let before = clock.now();
    let theirs = db::now(db, clock).await?;
    let after = clock.now();
    Ok(theirs - (before + (after - before) / 2))
}
