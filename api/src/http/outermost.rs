//! The layer around everything: the request's id, its log line, and one shape for whatever goes wrong inside.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures::FutureExt as _;
use poem::{
    Endpoint, Request, Response,
    http::{HeaderValue, header},
};
use relaypost_shared::{clock::Clock, settings::Proxies};
use tracing::{Instrument as _, field};

use super::{
    allow::AllowedMethods,
    client_address,
    problem::{ApiError, Code},
    request_id::{self, RequestId},
};
use crate::limits::Limiter;

/// What the layer needs to know.
#[derive(Debug)]
pub(crate) struct Outermost {
    pub(crate) clock: Clock,
    pub(crate) allowed: AllowedMethods,
    pub(crate) proxies: Proxies,
    pub(crate) limits: Limiter,
}

impl Outermost {
    /// Answers a request, whatever happens inside: this never fails and never panics.
    pub(crate) async fn call<E>(&self, inside: Arc<E>, mut request: Request) -> Response
    where
        E: Endpoint<Output = Response>,
    {
        let request_id = RequestId::of(&request, self.clock.now());
        let client = client_address::find(&mut request, &self.proxies);
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
        let meter = self.limits.meter(&request);
        request.set_data(meter.clone());
        let answered = async {
            let started = Instant::now();
            let result = AssertUnwindSafe(inside.call(request)).catch_unwind().await;
            let mut response = match result {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => self.refuse(&error.into(), &path, &request_id),
                Err(_) => {
                    let panicked = ApiError::new(Code::Internal, "the service failed");
                    tracing::error!("the handler panicked");
                    panicked.response(request_id.as_str())
                }
            };
            // Only visible ASCII can be in it.
            if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
                response.headers_mut().insert(request_id::HEADER, value);
            }
            meter.describe(response.headers_mut());
            let status = response.status().as_u16();
            let duration_ms = started.elapsed().as_millis();
            tracing::info!(status, duration_ms, "answered");
            response
        };
        answered.instrument(span).await
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
    use poem::{endpoint::make_sync, http::StatusCode};

    use super::*;
    use crate::routes::allowed_methods;

    async fn answer(inside: impl Endpoint<Output = Response>) -> Response {
        let outermost = Outermost {
            clock: Clock::system(),
            allowed: allowed_methods(),
            proxies: Proxies::default(),
            limits: Limiter::default(),
        };
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
