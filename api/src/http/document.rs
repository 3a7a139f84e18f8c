//! The OpenAPI document: what is the same for many operations is said here once instead of in every slice.

use std::collections::HashMap;

use poem_openapi::{
    OpenApi, Tags,
    registry::{
        MetaApi, MetaHeader, MetaMediaType, MetaOperation, MetaOperationParam, MetaParamIn,
        MetaResponse, MetaSchemaRef, Registry,
    },
    types::Type as _,
};
use relaypost_shared::ids::Tenant;

use super::{
    parameters::{Parameters, Routes},
    problem::{CONTENT_TYPE, Problem},
    text::Ref,
};
use crate::{
    auth::{Access, SECURITY_SCHEME, Scope},
    limits::{LIMIT_HEADER, POLICY_HEADER, limit_public},
};

/// The status of a request that comes too soon.
const TOO_MANY: u16 = 429;

/// Errors that do not follow from what an operation takes: it has those that its description names by their numbers.
const TOLD: [(u16, &str); 5] = [
    (401, "Neither a token nor a password that is good."),
    (403, "The person may not sign in; `code` says why."),
    (404, "There is no such thing."),
    (409, "It is in a state that forbids it; `code` says which."),
    (502, "The answer of the provider does not hold."),
];

/// The same for operations that let programs in by a guard of their own.
const TOLD_TO_MACHINES: [(u16, &str); 2] = [
    (401, "The secret is missing or wrong."),
    (403, "The guard lets nobody in from this address."),
];

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

/// Whether it is for programs that watch the service.
pub(crate) fn is_of_operations(operation: &MetaOperation) -> bool {
    operation.tags.contains(&Tag::Operations.name())
}

fn complete(operation: &mut MetaOperation) {
    let access = access_of(operation);
    if let Some(access) = access {
        operation.security = vec![HashMap::from([(SECURITY_SCHEME, vec![])])];
        if let Access::Tenant(_) = access {
            operation.params.push(tenant_header());
        }
    }
    for param in &mut operation.params {
        if param.description.is_none() {
            param.description = describe(&param.name).map(str::to_owned);
        }
        if !param.required {
            example_in_words(param);
        }
    }
    let problems = problems(operation, access);
    let responses = &mut operation.responses.responses;
    for (status, description) in problems {
        // An operation may have said better itself what it means.
        if responses.iter().all(|known| known.status != Some(status)) {
            responses.push(problem(Some(status), description));
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

/// What an operation asks of its caller: its extractor has left the marker of its [`Access`].
fn access_of(operation: &MetaOperation) -> Option<Access> {
    let marker = operation.security.first()?.keys().next()?;
    Access::ALL
        .iter()
        .copied()
        .find(|access| access.marker() == *marker)
}

/// The errors that an operation can answer with, as far as they follow from what it takes and from what its description
/// tells. There is no `default`: a status that is not listed here is a fault, and `make test-contract` finds it.
fn problems(operation: &MetaOperation, access: Option<Access>) -> Vec<(u16, &'static str)> {
    let params = &operation.params;
    let has = |place: MetaParamIn| params.iter().any(|param| param.in_type == place);
    let mut problems = vec![(
        400,
        "A parameter is invalid or unknown, or the body is not JSON.",
    )];
    if let Some(access) = access {
        problems.push((401, "No valid API key or access token."));
        problems.push((403, lacks(access.scope())));
    }
    if has(MetaParamIn::Path) {
        problems.push((404, "There is no such thing, or it is another tenant's."));
    } else if matches!(access, Some(Access::Tenant(_))) {
        problems.push((404, "There is no tenant with the id in `X-Tenant-Id`."));
    }
    if params.iter().any(|param| param.name == "Idempotency-Key") {
        problems.push((
            409,
            "The `Idempotency-Key` was used with another body, or the first request with it is still running.",
        ));
        problems.push((
            429,
            "Too many of the tenant's requests with an `Idempotency-Key` are in flight.",
        ));
    }
    let told = operation.description.unwrap_or_default();
    let errors_told = match is_of_operations(operation) {
        true => &TOLD_TO_MACHINES[..],
        false => &TOLD[..],
    };
    for &(status, why) in errors_told {
        let listed = problems.iter().any(|(known, _)| *known == status);
        if !listed && told.contains(&status.to_string()) {
            problems.push((status, why));
        }
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
        (
            TOO_MANY,
            "Too many requests; `Retry-After` says when to try again.",
        ),
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
        "Idempotency-Key" => Some(
            "A name of your own for this request, such as an order number: sending the same request again with the \
             same key does nothing and answers 200 with the body of the first answer, or 409 with `Retry-After` while \
             the first is still running. Bodies are compared byte for byte. Remembered for 24 hours unless configured \
             otherwise. Up to 255 visible ASCII characters.",
        ),
        _ => None,
    }
}

fn tenant_header() -> MetaOperationParam {
    MetaOperationParam {
        name: "X-Tenant-Id".to_owned(),
        schema: Ref::<Tenant>::schema_ref(),
        in_type: MetaParamIn::Header,
        description: Some(
            "Whose things this is about. A platform key needs it, and so does a user with roles in several tenants; a \
             tenant's key stands for its own tenant."
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
