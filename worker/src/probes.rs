//! What a worker answers on its own port: whether it lives, and whether it can work.

use std::{sync::Arc, time::Duration};

use poem::{
    Endpoint, EndpointExt as _, IntoResponse, Response, Route, get, handler,
    http::StatusCode,
    web::{Data, Json},
};
use relaypost_migration as migration;
use relaypost_shared::{serve::headers::protect, settings::AppEnv};
use serde_json::json;

use crate::run::Services;

/// How long a check may take before it has failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// The probes, under the names that the API gives them too.
pub fn app(services: Services) -> impl Endpoint<Output = Response> {
    let production = services.settings.env == AppEnv::Production;
    let mut routes = Route::new();
    for path in ["/health", "/healthz", "/health/live"] {
        routes = routes.at(path, get(live));
    }
    for path in ["/health/ready", "/readyz", "/ready"] {
        routes = routes.at(path, get(ready));
    }
    routes
        .data(Arc::new(services))
        .around(move |inside, request| async move {
            let mut response = inside.get_response(request).await;
            protect(response.headers_mut(), production);
            Ok(response)
        })
}

#[handler]
fn live(services: Data<&Arc<Services>>) -> impl IntoResponse {
    Json(json!({ "status": "ok", "timestamp": services.clock.now() }))
}

#[handler]
async fn ready(services: Data<&Arc<Services>>) -> Response {
    let word = |works: bool| if works { "ok" } else { "failed" };
    // A worker can do nothing without its queue.
    let (database, migrations, redis) = tokio::join!(
        within_patience(services.db.ping()),
        within_patience(migration::pending(&services.db)),
        within_patience(services.queue.ping()),
    );
    let (database, redis) = (database.is_some(), redis.is_some());
    let migrations = migrations.is_some_and(|pending| pending.is_empty());
    let works = database && migrations && redis;
    let body = json!({
        "status": if works { "ready" } else { "not_ready" },
        "checks": { "database": word(database), "migrations": word(migrations), "redis": word(redis) },
    });
    let status = if works {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Json(body).with_status(status).into_response()
}

async fn within_patience<T, E>(check: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, check).await.ok()?.ok()
}
