//! One webhook request: `POST`, the exact bytes, signed.

use std::{error::Error, sync::Arc, time::Duration};

use relaypost_shared::{
    VERSION,
    circuit::Signal,
    clock::Timestamp,
    delivery::ErrorClass,
    entities::{Pairs, endpoint},
    headers::is_reserved,
    settings::Webhooks,
    ssrf::{Guard, Target, Unresolved},
    store::load::Outgoing,
};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use tokio::time::{Instant, timeout_at};

use super::{Failure, Success, echo, resolver::VettingResolver, snippet};
use crate::{load::Credentials, retry, sign};

/// How much of an answer is read before the connection is given up, in bytes. Reading a short answer to its end keeps
/// the connection usable.
const READ_AT_MOST: usize = 64 * 1024;

/// Sends webhooks. Clones share connections.
#[derive(Clone, Debug)]
pub struct WebhookClient {
    http: Client,
    guard: Guard,
    timeout: Duration,
}

impl WebhookClient {
    /// A client that reaches only what `guard` allows: it follows no redirect, uses no proxy of the environment, and
    /// speaks HTTP/1.1 alone, where a connection serves the one host and port that it was made for. It unpacks nothing,
    /// whatever other parts of the program ask of the HTTP library.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: &Webhooks, guard: Guard) -> Result<Self, reqwest::Error> {
        super::choose_tls_provider();
        let http = Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .http1_only()
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .user_agent(format!("Relaypost/{VERSION}"))
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(settings.concurrency)
            .tcp_nodelay(true)
            .dns_resolver(Arc::new(VettingResolver(guard.clone())))
            .build()?;
        Ok(Self {
            http,
            guard,
            timeout: settings.timeout,
        })
    }

    pub(super) async fn send(
        &self,
        message: &Outgoing,
        endpoint: &endpoint::Model,
        credentials: &Credentials,
        at: Timestamp,
    ) -> Result<Success, Failure> {
        // Asked at every attempt: the rule, or the settings, may have changed since the endpoint was stored.
        let target = self
            .guard
            .target(&endpoint.url)
            .map_err(|refused| Failure::new(ErrorClass::Ssrf, refused.to_string()))?;
        let request = self.request(target, message, credentials, at)?;
        let allowed = endpoint
            .timeout_ms
            .and_then(|millis| u64::try_from(millis).ok());
        let deadline = Instant::now() + allowed.map_or(self.timeout, Duration::from_millis);
        let response = match timeout_at(deadline, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(classify(&error)),
            Err(_) => {
                return Err(Failure::new(
                    ErrorClass::Timeout,
                    "no answer within the time allowed",
                ));
            }
        };
        let status = response.status();
        let asked = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let not_before = asked.and_then(|asked| retry::retry_after(asked, at));
        let body = echo::hide(read(response, deadline).await, &credentials.headers);
        judge(status, &body).map_err(|failure| Failure {
            not_before,
            ..failure
        })
    }

    fn request(
        &self,
        target: Target,
        message: &Outgoing,
        credentials: &Credentials,
        at: Timestamp,
    ) -> Result<RequestBuilder, Failure> {
        let signature = sign::signatures(
            credentials.secrets.iter().map(String::as_str),
            message.id,
            at,
            &message.payload,
        )
        .map_err(|invalid| Failure::new(ErrorClass::Protocol, invalid.to_string()))?;
        let mut headers = own_headers(&credentials.headers)?;
        for (name, value) in [
            ("webhook-id", message.id.to_string()),
            ("webhook-timestamp", at.timestamp().to_string()),
            ("webhook-signature", signature),
            ("traceparent", traceparent(message, at)),
        ] {
            let value = HeaderValue::try_from(value)
                .map_err(|invalid| Failure::new(ErrorClass::Protocol, invalid.to_string()))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self
            .http
            .post(target.into_url())
            .headers(headers)
            .body(message.payload.clone()))
    }
}

/// The endpoint's own headers. One that it could be stored with when fewer were reserved is left out.
fn own_headers(own: &Pairs) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in own.0.iter().filter(|(name, _)| !is_reserved(name)) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok();
        let header = name.zip(HeaderValue::from_str(value).ok());
        let (name, value) = header.ok_or_else(|| {
            let words = "one of the endpoint's headers cannot be sent";
            Failure::new(ErrorClass::Protocol, words)
        })?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// A W3C trace context (<https://www.w3.org/TR/trace-context/>) whose trace is the message and whose span is the
/// attempt.
fn traceparent(message: &Outgoing, at: Timestamp) -> String {
    let trace = message.id.uuid().simple();
    let span = at.timestamp_millis().cast_unsigned() ^ rand::random::<u64>();
    format!("00-{trace}-{:016x}-01", span.max(1))
}

/// Reads the beginning of the answer. Whatever goes wrong here changes nothing: the status has been received.
async fn read(mut response: Response, deadline: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < READ_AT_MOST {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                body.extend_from_slice(&chunk[..chunk.len().min(READ_AT_MOST - body.len())])
            }
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    body
}

fn judge(status: StatusCode, body: &[u8]) -> Result<Success, Failure> {
    let code = Some(status.as_u16());
    let snippet = (!body.is_empty()).then(|| snippet(body));
    let class = match status.as_u16() {
        200..=299 => {
            return Ok(Success {
                status: code,
                snippet,
            });
        }
        300..=399 => ErrorClass::Redirect,
        413 => ErrorClass::BodyTooLarge,
        400..=499 => ErrorClass::Http4xx,
        500..=599 => ErrorClass::Http5xx,
        _ => ErrorClass::Protocol,
    };
    Err(Failure {
        status: code,
        snippet,
        ..Failure::new(class, "")
    })
}

/// What an attempt says about its endpoint. That one payload is too large, or that an address is forbidden, says nothing
/// about whether the endpoint works.
pub(super) fn signal(sent: &Result<Success, Failure>) -> Signal {
    match sent {
        Ok(_) => Signal::Success,
        Err(failure) if failure.class == ErrorClass::BodyTooLarge => Signal::Success,
        Err(failure) if matches!(failure.status, Some(429 | 503)) => Signal::Busy,
        Err(_) => Signal::Failure,
    }
}

/// The class of an error, from the innermost cause that says something.
fn classify(error: &reqwest::Error) -> Failure {
    let mut class = if error.is_timeout() {
        ErrorClass::Timeout
    } else if error.is_connect() {
        ErrorClass::Connect
    } else {
        ErrorClass::Protocol
    };
    let mut words = String::new();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(unresolved) = inner.downcast_ref() {
            class = match unresolved {
                Unresolved::NoAddress => ErrorClass::Dns,
                Unresolved::Forbidden(_) => ErrorClass::Ssrf,
            };
        } else if is_tls(inner) {
            class = ErrorClass::Tls;
        } else if !error.is_connect() && is_broken_pipe(inner) {
            class = ErrorClass::Connect;
        }
        // The outermost texts repeat the URL, whose query may hold a secret; the innermost says what went wrong.
        words = inner.to_string();
        cause = inner.source();
    }
    Failure::new(class, words)
}

/// Errors of rustls come inside `io::Error`s, one in another, which show what they hold only through `get_ref`.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let held = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    held.is_some_and(|held| is_tls(held))
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    error.downcast_ref::<std::io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset
        )
    })
}
