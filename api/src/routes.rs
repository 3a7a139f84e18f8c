//! Every route, the document that describes them, and the layers around them.

use std::sync::LazyLock;

use poem::{
    Endpoint, EndpointExt as _, Response, Route,
    endpoint::make_sync,
    get,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{LicenseObject, OpenApiService};
use relaypost_shared::VERSION;

use crate::{
    Services, health,
    http::{allow::AllowedMethods, closed, docs, document::Documented, outermost::Outermost},
    people::pages,
};

/// A pair of the first API and the rest: the framework's own tuples end at 16. An API is a struct without fields, so that the
/// same words are its type and its value.
macro_rules! nested {
    () => { () };
    ($($first:ident)::+, $($rest:tt)*) => { (crate::$($first)::+, nested!($($rest)*)) };
}

macro_rules! apis {
    ($($list:tt)*) => {
        type Apis = nested!($($list)*);
        const APIS: Apis = nested!($($list)*);
    };
}

// Every API, in the order of the document.
apis! {
    messages::MessagesApi,
    emails::EmailsApi,
    endpoints::EndpointsApi,
    endpoints::EndpointControlsApi,
    event_types::EventTypesApi,
    deliveries::DeliveriesApi,
    dead_letters::WebhookDeadLettersApi,
    dead_letters::EmailDeadLettersApi,
    stats::StatsApi,
    replays::ReplaysApi,
    tenants::TenantsApi,
    api_keys::ApiKeysApi,
    api_keys::PlatformKeysApi,
    people::SignInApi,
    people::MyselfApi,
    people::ProofsApi,
    people::DemoApi,
    people::UsersApi,
    people::MembersApi,
    audit_log::AuditLogApi,
    oauth::OauthApi,
    operations::OperationsApi,
}

/// The page and the document are no secrets, but a newer release has others.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

const ABOUT: &str = "\
Relaypost delivers webhooks and email: it stores what you hand in, answers, and delivers it in the background with \
retries.\n\n\
**Sign in** with an API key, `Authorization: Bearer rp_…`, or as a user: `auth_login` answers with an access token that \
goes into the same header.\n\n\
**Errors** all have one shape, `application/problem+json` (RFC 9457). Look at `code`; `retryable` says whether trying \
again can help. Unknown fields in a body are refused (422), so that a misspelt one is not overlooked, and so are unknown \
query parameters (400).\n\n\
**Requests that create** take an `Idempotency-Key`, which makes it safe to send them again: the answer is 200 with the body \
of the first, or 409 with `Retry-After` while the first is still running. A POST that takes none, such as that of an API \
key, refuses it (400).\n\n\
**Lists** are newest first and come in pages: pass `next_cursor` as `cursor` until it is null.\n\n\
**Limits**: 429 `rate_limited` says that a tenant, a key or an address asks too often, and `Retry-After` when to go on.\n\n\
**Every request** may carry an `X-Request-ID` of up to 128 letters, digits and `._-`; it is in the answer, in the logs \
and on every attempt to deliver.";

/// What is published about the API. It is the same for every process of a build, so it is made once.
static PUBLISHED: LazyLock<Published> = LazyLock::new(|| {
    let service = service();
    let framed = service.spec();
    let document = closed::close_bodies(&framed);
    let page = service.swagger_ui_html().replace(&framed, &document);
    Published {
        policy: docs::policy(&page),
        page,
        document,
    }
});

struct Published {
    /// The OpenAPI document.
    document: String,
    /// The page with Swagger UI, which holds the document.
    page: String,
    /// The page's `Content-Security-Policy`.
    policy: String,
}

fn service() -> OpenApiService<Documented<Apis>, ()> {
    OpenApiService::new(Documented(APIS), "Relaypost", VERSION)
        .description(ABOUT)
        .license(LicenseObject::new("MIT OR Apache-2.0"))
        // Relative: "try it out" works wherever the page comes from.
        .server("/")
}

/// The OpenAPI document as indented JSON, the same for every build of the same code.
pub fn openapi() -> String {
    format!("{}\n", PUBLISHED.document)
}

/// Which methods each path of the document takes.
pub(crate) fn allowed_methods() -> AllowedMethods {
    AllowedMethods::of_api::<Apis>()
}

/// The whole API: every answer it gives, errors included, has one of the document's shapes and an `X-Request-ID`.
pub fn app(services: Services) -> impl Endpoint<Output = Response> {
    let outermost = Outermost::new(
        services.clock.clone(),
        &services.settings,
        services.limits.clone(),
        allowed_methods(),
    );
    let document = openapi();
    let Published { page, policy, .. } = &*PUBLISHED;
    pages::routes(health::routes(Route::new()))
        .at(
            "/openapi.json",
            get(make_sync(move |_| {
                Response::builder()
                    .content_type("application/json")
                    .header(header::CACHE_CONTROL, ASK_AGAIN)
                    .body(document.clone())
            })),
        )
        .at(
            "/docs",
            get(make_sync(move |_| {
                Response::builder()
                    .content_type("text/html; charset=utf-8")
                    .header(header::CONTENT_SECURITY_POLICY, policy)
                    .header(header::CACHE_CONTROL, ASK_AGAIN)
                    .body(page.as_str())
            })),
        )
        // Browsers ask for one beside `/docs`; there is none, and that is no error.
        .at("/favicon.ico", get(make_sync(|_| StatusCode::NO_CONTENT)))
        .nest("/", service())
        .data(services)
        .with(outermost)
}
