//! Which web pages may call the API ([CORS](https://fetch.spec.whatwg.org/#http-cors-protocol)): those of the
//! configured origins, with the credentials that their scripts hold. Browsers never add any of their own.

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use relaypost_shared::settings::Origins;

/// What a page may send.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// Beside what is always allowed.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Idempotency-Key, X-Tenant-Id, X-Request-ID",
);
/// What a page may read, beside the body.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "X-Request-ID, Idempotency-Replayed, Retry-After, RateLimit, RateLimit-Policy, Location",
);
/// For how many seconds a browser need not ask again; Chromium keeps it for no longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// What an answer depends on.
const VARY: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// The origins, if there are any.
#[derive(Clone, Debug)]
pub(crate) struct Cors(Origins);

/// What the page of one request may do.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    origin: Option<HeaderValue>,
    preflight: bool,
    /// Whether there is any page that may do something.
    varies: bool,
}

impl Cors {
    pub(crate) fn new(origins: Option<&Origins>) -> Self {
        Self(origins.cloned().unwrap_or_default())
    }

    /// The page that sends this request.
    pub(crate) fn page(&self, request: &Request) -> Page {
        let headers = request.headers();
        let mut sent = headers.get_all(header::ORIGIN).iter();
        let origin = match (sent.next(), sent.next()) {
            (Some(origin), None) if self.0.contains(origin.as_bytes()) => Some(origin.clone()),
            _ => None,
        };
        let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Page {
            preflight: origin.is_some() && asks && request.method() == Method::OPTIONS,
            origin,
            varies: !self.0.is_empty(),
        }
    }
}

impl Page {
    /// The answer to a browser that asks before it sends the request itself; nothing if this is none that may be sent.
    pub(crate) fn preflight(&self) -> Option<Response> {
        self.preflight.then(|| {
            Response::builder()
                .status(StatusCode::NO_CONTENT)
                .header(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)
                .header(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS)
                .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
                .finish()
        })
    }

    /// Says in an answer what the page may do with it. An origin that is not listed gets nothing, and the browser keeps
    /// the answer from it.
    pub(crate) fn permit(&self, headers: &mut HeaderMap) {
        if self.varies {
            let vary = if self.preflight { VARY_PREFLIGHT } else { VARY };
            headers.append(header::VARY, vary);
        }
        if let Some(origin) = &self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if !self.preflight {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
            }
        }
    }
}
