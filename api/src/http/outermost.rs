//! The layer around everything: the request's id, its log line, its limits, one shape for whatever goes wrong inside,
//! and what browsers may do with the answer.

use std::time::Instant;

use poem::{
    Endpoint, Middleware, Request, Response,
    http::{HeaderValue, header},
};
use relaypost_shared::{
    clock::Clock,
    serve::headers::protect,
    settings::{AppEnv, Proxies, Settings},
};
use tracing::{Instrument as _, field};

use super::{
    allow::AllowedMethods,
    client_address,
    cors::Cors,
    limits::Limits,
    problem::{ApiError, Code},
    request_id::{self, RequestId},
};
use crate::limits::Limiter;

/// The target of the line about each request.
const ACCESS: &str = "access";
/// A success that took longer, in milliseconds, is worth a line.
const SLOW_MS: u64 = 1_000;

/// What the layer needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Outermost {
    clock: Clock,
    allowed: AllowedMethods,
    limits: Limits,
    cors: Cors,
    production: bool,
    proxies: Proxies,
    limiter: Limiter,
}

impl Outermost {
    pub(crate) fn new(
        clock: Clock,
        settings: &Settings,
        limiter: Limiter,
        allowed: AllowedMethods,
    ) -> Self {
        Self {
            clock,
            allowed,
            limits: Limits::of(settings),
            cors: Cors::new(settings.http.cors_origins.as_ref()),
            production: settings.env == AppEnv::Production,
            proxies: settings.proxies.clone(),
            limiter,
        }
    }

    fn refuse(&self, error: &ApiError, path: &str, request_id: &RequestId) -> Response {
        if let Some(cause) = &error.cause {
            tracing::error!(code = error.code.as_str(), %cause, "the request failed");
        }
        let mut response = error.response(request_id.as_str());
        if error.code == Code::MethodNotAllowed {
            let methods = HeaderValue::from_str(&self.allowed.of(path));
            if let Ok(methods) = methods {
                response.headers_mut().insert(header::ALLOW, methods);
            }
        }
        response
    }
}

impl<E: Endpoint<Output = Response>> Middleware<E> for Outermost {
    type Output = Wrapped<E>;

    fn transform(&self, inside: E) -> Wrapped<E> {
        Wrapped {
            layer: self.clone(),
            inside,
        }
    }
}

/// An endpoint with the layer around it.
#[derive(Debug)]
pub(crate) struct Wrapped<E> {
    layer: Outermost,
    inside: E,
}

impl<E: Endpoint<Output = Response>> Endpoint for Wrapped<E> {
    type Output = Response;

    /// Answers a request, whatever happens inside: this never fails and never panics.
    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let Self { layer, inside } = self;
        let client = client_address::find(&mut request, &layer.proxies);
        let request_id = RequestId::of(&request, client, layer.clock.now());
        let path = request.uri().path().to_owned();
        let span = tracing::info_span!(
            "request",
            %request_id,
            method = %request.method(),
            path,
            %client,
            tenant_id = field::Empty,
        );
        request.set_data(request_id.clone());
        let page = layer.cors.page(&request);
        let meter = layer.limiter.meter(&request);
        request.set_data(meter.clone());
        let answered = async {
            let started = Instant::now();
            let result = match page.preflight() {
                Some(permitted) => Ok(permitted),
                None => layer.limits.answer(inside, request).await,
            };
            let mut response =
                result.unwrap_or_else(|error| layer.refuse(&error, &path, &request_id));
            protect(response.headers_mut(), layer.production);
            page.permit(response.headers_mut());
            // Only visible ASCII can be in it.
            if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
                response.headers_mut().insert(request_id::HEADER, value);
            }
            meter.describe(response.headers_mut());
            let status = response.status().as_u16();
            // As a `u128` it would be logged as a text.
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            // A line for each success would cost a good part of a success; who wants them says `LOG=info,access=debug`.
            if status < 400 && duration_ms < SLOW_MS {
                tracing::debug!(target: ACCESS, status, duration_ms, "answered");
            } else {
                tracing::info!(target: ACCESS, status, duration_ms, "answered");
            }
            response
        };
        Ok(answered.instrument(span).await)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use poem::{endpoint::make_sync, http::StatusCode};

    use super::*;
    use crate::routes::allowed_methods;

    async fn answer(inside: impl Endpoint<Output = Response>) -> Response {
        let settings = Settings::from_map(HashMap::new()).unwrap();
        let outermost = Outermost::new(
            Clock::system(),
            &settings,
            Limiter::default(),
            allowed_methods(),
        );
        let request = Request::builder().finish();
        outermost.transform(inside).call(request).await.unwrap()
    }

    #[tokio::test]
    async fn whatever_goes_wrong_inside_is_answered_as_a_problem() {
        let panics = make_sync(|_| -> Response { panic!("a mistake") });
        let unknown = make_sync(|_| {
            let cause = std::io::Error::other("secret");
            Err::<Response, _>(poem::error::InternalServerError(cause))
        });
        for response in [answer(panics).await, answer(unknown).await] {
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert!(response.headers().contains_key(request_id::HEADER));
            let body = response.into_body().into_string().await.unwrap();
            assert!(body.contains("\"code\":\"internal\""), "{body}");
            assert!(!body.contains("secret"), "{body}");
        }
    }
}
