//! The layer around everything: the request's id, its log line, its limits, one shape for whatever goes wrong inside,
//! and what browsers may do with the answer.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt as _;
use poem::{
    Endpoint, Request, Response,
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
#[derive(Debug)]
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

    /// Answers a request, whatever happens inside: this never fails and never panics.
    pub(crate) async fn call<E>(&self, inside: Arc<E>, mut request: Request) -> Response
    where
        E: Endpoint<Output = Response>,
    {
        let client = client_address::find(&mut request, &self.proxies);
        let request_id = RequestId::of(&request, client, self.clock.now());
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
        let page = self.cors.page(&request);
        let meter = self.limiter.meter(&request);
        request.set_data(meter.clone());
        let answered = async {
            let started = Instant::now();
            let result = match page.preflight() {
                Some(permitted) => Ok(permitted),
                None => self.answer(inside, request).await,
            };
            let mut response =
                result.unwrap_or_else(|error| self.refuse(&error, &path, &request_id));
            protect(response.headers_mut(), self.production);
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
        answered.instrument(span).await
    }

    async fn answer<E>(&self, inside: Arc<E>, mut request: Request) -> Result<Response, ApiError>
    where
        E: Endpoint<Output = Response>,
    {
        let limited = self.limits.check(&mut request)?;
        // Boxed: what is around it holds it several times over, and all that would be moved for each request.
        let answering = AssertUnwindSafe(inside.call(request).boxed()).catch_unwind();
        match limited.run(answering).await? {
            Ok(response) => Ok(response?),
            Err(_) => {
                tracing::error!("the handler panicked");
                Err(ApiError::new(Code::Internal, "the service failed"))
            }
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
        outermost
            .call(Arc::new(inside), Request::builder().finish())
            .await
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
