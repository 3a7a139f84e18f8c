//! Every route, the document that describes them, and the layers around them.

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt as _, Response, Route,
    endpoint::make_sync,
    get,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{LicenseObject, OpenApiService};
use relaypost_shared::VERSION;

use crate::{
    Services,
    api_keys::{ApiKeysApi, PlatformKeysApi},
    audit_log::AuditLogApi,
    dead_letters::{EmailDeadLettersApi, WebhookDeadLettersApi},
    deliveries::DeliveriesApi,
    emails::EmailsApi,
    endpoints::{EndpointControlsApi, EndpointsApi},
    event_types::EventTypesApi,
    health,
    http::{allow::AllowedMethods, closed, docs, document::Documented, outermost::Outermost},
    messages::MessagesApi,
    oauth::OauthApi,
    operations::OperationsApi,
    people::{DemoApi, MembersApi, MyselfApi, ProofsApi, SignInApi, UsersApi, pages},
    replays::ReplaysApi,
    stats::StatsApi,
    tenants::TenantsApi,
};

/// The slices, in the order of the document.
type Slices = (
    MessagesApi,
    EmailsApi,
    EndpointsApi,
    EndpointControlsApi,
    EventTypesApi,
    DeliveriesApi,
    WebhookDeadLettersApi,
    EmailDeadLettersApi,
    StatsApi,
    ReplaysApi,
    TenantsApi,
    ApiKeysApi,
    PlatformKeysApi,
    People,
    OperationsApi,
);

/// Those of people who sign in: a tuple of its own, because the framework's go up to 16.
type People = (
    SignInApi,
    MyselfApi,
    ProofsApi,
    DemoApi,
    UsersApi,
    MembersApi,
    AuditLogApi,
    OauthApi,
);

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

fn service() -> OpenApiService<Documented<Slices>, ()> {
    let people = (
        SignInApi,
        MyselfApi,
        ProofsApi,
        DemoApi,
        UsersApi,
        MembersApi,
        AuditLogApi,
        OauthApi,
    );
    let slices = (
        MessagesApi,
        EmailsApi,
        EndpointsApi,
        EndpointControlsApi,
        EventTypesApi,
        DeliveriesApi,
        WebhookDeadLettersApi,
        EmailDeadLettersApi,
        StatsApi,
        ReplaysApi,
        TenantsApi,
        ApiKeysApi,
        PlatformKeysApi,
        people,
        OperationsApi,
    );
    OpenApiService::new(Documented(slices), "Relaypost", VERSION)
        .description(ABOUT)
        .license(LicenseObject::new("MIT OR Apache-2.0"))
        // Relative: "try it out" works wherever the page comes from.
        .server("/")
}

/// The OpenAPI document as indented JSON, the same for every build of the same code.
pub fn openapi() -> String {
    let mut document = closed::spell_out(&service().spec());
    document.push('\n');
    document
}

/// Which methods each path of the document takes.
pub(crate) fn allowed_methods() -> AllowedMethods {
    AllowedMethods::of_api::<Slices>()
}

/// The whole API: every answer it gives, errors included, has one of the document's shapes and an `X-Request-ID`.
pub fn app(services: Services) -> impl Endpoint<Output = Response> {
    let service = service();
    let docs = closed::spell_out(&service.swagger_ui_html());
    let docs_policy = docs::policy(&docs);
    let outermost = Arc::new(Outermost::new(
        services.clock.clone(),
        &services.settings,
        services.limits.clone(),
        allowed_methods(),
    ));
    let document = openapi();
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
                    .header(header::CONTENT_SECURITY_POLICY, &docs_policy)
                    .header(header::CACHE_CONTROL, ASK_AGAIN)
                    .body(docs.clone())
            })),
        )
        // Browsers ask for one beside `/docs`; there is none, and that is no error.
        .at("/favicon.ico", get(make_sync(|_| StatusCode::NO_CONTENT)))
        .nest("/", service)
        .data(services)
        .around(move |inside, request| {
            let outermost = outermost.clone();
            async move { Ok(outermost.call(inside, request).await) }
        })
}
