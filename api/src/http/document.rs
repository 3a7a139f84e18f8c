//! The OpenAPI document: what is the same for many operations is said here once instead of in every slice.

use super::{
    declared::{Declared, Watcher},
    external_id::ExternalId,
    failures::kept,
    parameters::{Parameters, Routes},
    problem::{CONTENT_TYPE, Problem},
    text::Text,
};
use crate::{
    auth::{Access, SECURITY_SCHEME, Scope},
    idempotency::IdempotencyKey,
    limits::{LIMIT_HEADER, POLICY_HEADER, limit_public},
};
use poem_openapi::{
    OpenApi, Tags,
    registry::{
        MetaApi, MetaHeader, MetaMediaType, MetaOperation, MetaOperationParam, MetaParamIn,
        MetaResponse, MetaSchemaRef, Registry,
    },
    types::Type as _,
};

/// The status of a request that comes too soon.
const TOO_MANY: u16 = 429;

/// The groups of operations.
#[derive(Tags)]
pub(crate) enum Tag {
    /// Publish events, which go out as webhooks to the endpoints that want them.
    Messages,
    /// Send emails.
    Emails,
    /// Where a tenant's webhooks go.
    Endpoints,
    /// The kinds of event that a tenant publishes, with the schema that their payloads have to fit.
    EventTypes,
    /// One message to one endpoint, or one email to one recipient: where it stands, and every attempt.
    Deliveries,
    /// Deliveries that were given up: look at them, replay them, discard them.
    DeadLetters,
    /// How deliveries are doing, in figures.
    Stats,
    /// Jobs that replay or discard many dead letters, or recover what an endpoint has missed: how far they are.
    Replays,
    /// Whom everything else belongs to. For the operator of the platform.
    Tenants,
    /// What programs sign in with.
    ApiKeys,
    /// How people sign in, with the session that begins with it.
    SignIn,
    /// People who sign in, and what they may do in which tenant.
    Users,
    /// Who did what.
    AuditLog,
    /// How the service is doing, for programs that watch it. They need no API key.
    Operations,
}

/// Wraps an API so that its document tells the whole truth: keys, the tenant, every kind of error, the request's id.
#[derive(Debug)]
pub(crate) struct Documented<T>(pub(crate) T);

impl<T: OpenApi> OpenApi for Documented<T> {
    fn meta() -> Vec<MetaApi> {
        let mut apis = T::meta();
        for path in apis.iter_mut().flat_map(|api| &mut api.paths) {
            for operation in &mut path.operations {
                complete(operation);
            }
        }
        apis
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
        Problem::register(registry);
    }

    fn add_routes(self, routes: &mut Routes) {
        self.0.add_routes(routes);
        Parameters::attach::<T>(routes);
        limit_public::<T>(routes);
    }
}

fn complete(operation: &mut MetaOperation) {
    let declared = Declared::take(operation, SECURITY_SCHEME);
    if declared.takes_key {
        operation.params.push(key_header());
    }
    if let Some(Access::Tenant(_)) = declared.access {
        operation.params.push(tenant_header());
    }
    for param in &mut operation.params {
        if param.description.is_none() {
            param.description = describe(&param.name).map(str::to_owned);
        }
        if !param.required {
            example_in_words(param);
        }
    }
    let problems = problems(operation, declared);
    let responses = &mut operation.responses.responses;
    for (status, description) in problems {
        let known = responses.iter_mut().find(|one| one.status == Some(status));
        match known {
            // The operation declares errors of its own with the same status.
            Some(own) => own.description = kept(format!("{description} {}", own.description)),
            None => responses.push(problem(Some(status), description)),
        }
    }
    responses.sort_by_key(|response| response.status);
    for response in responses {
        response.headers.push(request_id_header());
        response.headers.extend(limit_headers(response.status));
    }
}

/// Swagger UI fills examples in, and "try it out" would send every filter of a list at once. So the example of what can
/// be left out is only told.
fn example_in_words(param: &mut MetaOperationParam) {
    if let MetaSchemaRef::Inline(schema) = &mut param.schema
        && let Some(example) = schema.example.take()
    {
        let example = example
            .as_str()
            .map_or_else(|| example.to_string(), str::to_owned);
        let description = param.description.take().unwrap_or_default();
        param.description = Some(format!("{description} Example: `{example}`."));
    }
}

/// The errors that follow from what an operation takes; it declares every other one itself ([`super::failures`]). There is no
/// `default`: a status that is not listed here is a fault, and the tests find it.
fn problems(operation: &MetaOperation, declared: Declared) -> Vec<(u16, &'static str)> {
    let names_something = operation
        .params
        .iter()
        .any(|param| param.in_type == MetaParamIn::Path);
    let mut problems = vec![(
        400,
        "A parameter is invalid or unknown, or the body is not JSON.",
    )];
    if let Some(access) = declared.access {
        problems.push((401, "No valid API key or access token."));
        problems.push((403, lacks(access.scope())));
    }
    if declared.watcher == Some(Watcher::Guarded) {
        problems.push((401, "The secret is missing or wrong."));
        problems.push((403, "The guard lets nobody in from this address."));
    }
    if names_something {
        problems.push((404, "There is no such thing, or it is another tenant's."));
    } else if matches!(declared.access, Some(Access::Tenant(_))) {
        problems.push((
            404,
            "There is no tenant with the id or external id in `X-Tenant-Id`.",
        ));
    }
    if declared.takes_key {
        problems.push((
            409,
            "The `Idempotency-Key` was used with another body, or the first request with it is still running.",
        ));
    }
    problems.push((414, "The path with its query is too long."));
    if operation.request.is_some() {
        problems.push((408, "The body did not arrive in time."));
        problems.push((413, "The body is too large."));
        problems.push((
            415,
            "The body is not `application/json`, or it is compressed.",
        ));
        problems.push((422, "The body is not valid; `errors` lists why."));
    }
    problems.extend([
        (TOO_MANY, too_many(declared.takes_key)),
        (500, "Something went wrong here; try again."),
        (
            503,
            "Not available right now; try again after `Retry-After` seconds.",
        ),
        (
            507,
            "The disk of the database is full and nothing was stored; try again after `Retry-After` seconds.",
        ),
    ]);
    problems
}

const fn too_many(takes_key: bool) -> &'static str {
    if takes_key {
        "Too many requests, or too many of the tenant's requests with an `Idempotency-Key` are in flight; `Retry-After` \
         says when to try again."
    } else {
        "Too many requests; `Retry-After` says when to try again."
    }
}

const fn lacks(scope: Option<Scope>) -> &'static str {
    match scope {
        Some(Scope::Send) => "The caller lacks the scope `send`.",
        Some(Scope::Read) => "The caller lacks the scope `read`.",
        Some(Scope::Manage) => "The caller lacks the scope `manage`.",
        Some(Scope::Admin) => "The caller lacks the scope `admin`.",
        Some(Scope::Platform) => "The caller lacks the scope `platform`.",
        None => "This is for people who have signed in, not for API keys.",
    }
}

/// Parameters that many operations have.
fn describe(name: &str) -> Option<&'static str> {
    match name {
        "limit" => Some("How many items a page has at most."),
        "cursor" => Some("The `next_cursor` of the page before; leave it out for the first page."),
        _ => None,
    }
}

fn key_header() -> MetaOperationParam {
    MetaOperationParam {
        name: "Idempotency-Key".to_owned(),
        schema: IdempotencyKey::schema(),
        in_type: MetaParamIn::Header,
        description: Some(
            "A name of your own for this request, such as an order number: sending the same request again with the \
             same key does nothing and answers 200 with the body of the first answer, or 409 with `Retry-After` while \
             the first is still running. Bodies are compared byte for byte. Remembered for 24 hours unless configured \
             otherwise. Up to 255 visible ASCII characters."
                .to_owned(),
        ),
        required: false,
        deprecated: false,
        explode: true,
        style: None,
    }
}

fn tenant_header() -> MetaOperationParam {
    MetaOperationParam {
        name: "X-Tenant-Id".to_owned(),
        schema: Text::<ExternalId>::schema_ref(),
        in_type: MetaParamIn::Header,
        description: Some(
            "The tenant to act for, by its id (`ten_…`) or its `external_id`. A platform key needs it, and so does a user \
             with roles in several tenants; a tenant's key stands for its own tenant."
                .to_owned(),
        ),
        required: false,
        deprecated: false,
        explode: true,
        style: None,
    }
}

fn request_id_header() -> MetaHeader {
    MetaHeader {
        name: "X-Request-ID".to_owned(),
        description: Some(
            "The id of the request: the one sent in the same header, or a new one.".to_owned(),
        ),
        required: true,
        deprecated: false,
        schema: String::schema_ref(),
    }
}

/// Every answer that a limit was asked for says where it stands; they are documented where clients look for them.
fn limit_headers(status: Option<u16>) -> Vec<MetaHeader> {
    let header = |name: &str, description: &str, required| MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required,
        deprecated: false,
        schema: String::schema_ref(),
    };
    let policy = "The limits of this request and their quotas: `\"key\";q=2000;w=2` is a burst of 2000 that comes back in 2 \
                  seconds. Absent when there are none.";
    let limit = "What is left of them: `\"key\";r=1999;t=1` is 1999 requests now, and all of them in a second.";
    match status {
        Some(200..=299) => vec![
            header(POLICY_HEADER, policy, false),
            header(LIMIT_HEADER, limit, false),
        ],
        Some(TOO_MANY) => vec![
            // A sign-in that is locked is no matter of these limits.
            header(POLICY_HEADER, policy, false),
            header(LIMIT_HEADER, limit, false),
            MetaHeader {
                schema: u32::schema_ref(),
                ..header(
                    "Retry-After",
                    "In how many seconds the request goes through.",
                    true,
                )
            },
        ],
        _ => vec![],
    }
}

/// An error that an operation answers with.
pub(crate) fn problem(status: Option<u16>, description: &'static str) -> MetaResponse {
    MetaResponse {
        description,
        status,
        status_range: None,
        content: vec![MetaMediaType {
            content_type: CONTENT_TYPE,
            schema: Problem::schema_ref(),
        }],
        headers: vec![],
    }
}
