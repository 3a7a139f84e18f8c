//! Probes, for whoever runs the process: without keys, and not in the document.

use std::time::Duration;

use poem::{
    Response, Route, get, handler,
    http::StatusCode,
    web::{Data, Json},
};
use relaypost_migration as migration;
use serde::Serialize;
use serde_json::json;

use crate::{Services, http::Moment};

/// How long a check may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Adds the probes under all their names.
pub(crate) fn routes(route: Route) -> Route {
    let route = ["/health", "/healthz", "/health/live"]
        .into_iter()
        .fold(route, |route, path| route.at(path, get(live)));
    ["/health/ready", "/readyz", "/ready"]
        .into_iter()
        .fold(route, |route, path| route.at(path, get(ready)))
}

#[handler]
fn live(Data(services): Data<&Services>) -> Json<serde_json::Value> {
    let timestamp = Moment::from(services.clock.now());
    Json(json!({"status": "ok", "timestamp": timestamp}))
}

/// How something that the service needs is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Check {
    Ok,
    /// It is gone, and the service works without it for now.
    Degraded,
    Failed,
}

#[derive(Debug, Serialize)]
struct Checks {
    database: Check,
    redis: Check,
    migrations: Check,
}

#[handler]
async fn ready(Data(services): Data<&Services>) -> Response {
    let (database, migrations, redis) = tokio::join!(
        within_patience("database", services.db.ping()),
        within_patience("migrations", pending(services)),
        within_patience("redis", services.queue.ping()),
    );
    let checks = Checks {
        database: if database.is_some() {
            Check::Ok
        } else {
            Check::Failed
        },
        migrations: if migrations == Some(0) {
            Check::Ok
        } else {
            Check::Failed
        },
        redis: match redis {
            Some(()) => Check::Ok,
            None if services.settings.readiness_requires_redis => Check::Failed,
            None => Check::Degraded,
        },
    };
    let failed = [checks.database, checks.redis, checks.migrations].contains(&Check::Failed);
    let (code, status) = if failed {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    } else {
        (StatusCode::OK, "ready")
    };
    let body = json!({"status": status, "checks": checks}).to_string();
    Response::builder()
        .status(code)
        .content_type("application/json")
        .body(body)
}

async fn pending(services: &Services) -> Result<usize, sea_orm::DbErr> {
    Ok(migration::pending(&services.db).await?.len())
}

async fn within_patience<T, E: std::fmt::Display>(
    what: &str,
    check: impl Future<Output = Result<T, E>>,
) -> Option<T> {
    match tokio::time::timeout(PATIENCE, check).await {
        Ok(Ok(value)) => Some(value),
        Ok(Err(error)) => {
            tracing::warn!(what, %error, "a readiness check failed");
            None
        }
        Err(_) => {
            tracing::warn!(what, "a readiness check took too long");
            None
        }
    }
}
