//! What a worker answers on its own port: whether it lives, and whether it can work.

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt as _, IntoResponse, Request, Response, Route, get, handler,
    http::StatusCode,
    web::{Data, Json},
};
use relaypost_shared::{
    clock::Clock,
    health::{
        Details,
        access::{Refusal, may_see_details},
        answers,
    },
    ids::RequestId,
    serve::headers::protect,
    settings::AppEnv,
};
use serde_json::json;

use crate::run::Services;

/// The probes, under the names that the API gives them too.
pub fn app(services: Services) -> impl Endpoint<Output = Response> {
    let production = services.settings.env == AppEnv::Production;
    let mut routes = Route::new().at("/health/detailed", get(detailed));
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
async fn live(services: Data<&Arc<Services>>) -> Response {
    answers::live(&services.health, services.clock.now()).await
}

#[handler]
async fn ready(services: Data<&Arc<Services>>) -> Response {
    answers::ready(&services.health).await
}

#[handler]
async fn detailed(request: &Request, services: Data<&Arc<Services>>) -> Response {
    let Services {
        db,
        queue,
        clock,
        settings,
        health,
    } = services.as_ref();
    if let Err(refusal) = may_see_details(request, settings) {
        return refused(refusal, clock);
    }
    let cap = settings.webhooks.max_in_flight;
    Json(Details::of(health, db, queue, clock, cap).await).into_response()
}

/// A refusal in the shape of the API's errors (RFC 9457).
fn refused(refusal: Refusal, clock: &Clock) -> Response {
    let (code, title) = match refusal.status {
        StatusCode::UNAUTHORIZED => ("unauthorized", "No valid key"),
        _ => ("forbidden", "The caller may not do this"),
    };
    let problem = json!({
        "type": format!("urn:relaypost:problem:{code}"),
        "title": title,
        "status": refusal.status.as_u16(),
        "detail": refusal.detail,
        "code": code,
        "request_id": RequestId::generate(clock.now()).to_string(),
        "retryable": false,
    });
    Response::builder()
        .status(refusal.status)
        .content_type("application/problem+json")
        .body(problem.to_string())
}
