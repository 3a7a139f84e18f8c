//! Probes, for those who run the process: without keys, and not in the document.

use poem::{
    Request, Response, Route, get, handler,
    http::StatusCode,
    web::{Data, Json},
};
use relaypost_shared::health::{
    Details,
    access::{Refusal, may_see_details},
    answers,
};

use crate::{
    Services,
    http::{ApiError, Code},
};

/// Adds the probes under all their names.
pub(crate) fn routes(route: Route) -> Route {
    let route = ["/health", "/healthz", "/health/live"]
        .into_iter()
        .fold(route, |route, path| route.at(path, get(live)));
    let route = ["/health/ready", "/readyz", "/ready"]
        .into_iter()
        .fold(route, |route, path| route.at(path, get(ready)));
    route.at("/health/detailed", get(detailed))
}

#[handler]
async fn live(Data(services): Data<&Services>) -> Response {
    answers::live(&services.health, services.clock.now()).await
}

#[handler]
async fn ready(Data(services): Data<&Services>) -> Response {
    answers::ready(&services.health).await
}

#[handler]
async fn detailed(
    request: &Request,
    Data(services): Data<&Services>,
) -> poem::Result<Json<Details>> {
    may_see_details(request, &services.settings).map_err(refused)?;
    let Services {
        health,
        db,
        queue,
        clock,
        settings,
        ..
    } = services;
    let cap = settings.webhooks.max_in_flight;
    Ok(Json(Details::of(health, db, queue, clock, cap).await))
}

/// A refusal as this API says it.
pub(crate) fn refused(refusal: Refusal) -> ApiError {
    let code = match refusal.status {
        StatusCode::UNAUTHORIZED => Code::Unauthorized,
        _ => Code::Forbidden,
    };
    ApiError::new(code, refusal.detail)
}
