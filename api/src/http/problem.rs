//! Errors as the outside sees them: RFC 9457 problem objects, one shape for all.

use std::{borrow::Cow, error::Error as StdError, sync::Arc};

use poem::{
    Response,
    error::ResponseError,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaResponses, Registry},
    types::{Example, Type as _},
};
use relaypost_shared::ids;
use serde::Serialize;

use super::text::example_id;

/// The content type of every error.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// Every error code that this API answers with. Codes are part of the contract: none is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    MalformedJson,
    InvalidParameter,
    InvalidCursor,
    TenantRequired,
    Unauthorized,
    Forbidden,
    NotFound,
    RouteNotFound,
    MethodNotAllowed,
    IdempotencyKeyReused,
    AlreadyDelivered,
    AlreadyDiscarded,
    AlreadyCompleted,
    EndpointDisabled,
    AlreadyCancelled,
    TooLate,
    EventTypeExists,
    ExternalIdTaken,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    EventTypeArchived,
    SchemaTooExpensive,
    Internal,
    Unavailable,
    StorageFull,
    ApiKeyEnded,
    RequestTimeout,
    TookTooLong,
    UriTooLong,
    HeadersTooLarge,
    RateLimited,
    SecretUnreadable,
    InvalidCredentials,
    SignInLocked,
    EmailNotVerified,
    UserDisabled,
    UserExists,
    IdempotencyKeyInUse,
    TooManyInFlight,
    SignInOver,
    ProviderRefused,
    ProviderInvalid,
    ProviderUnavailable,
    AddressNotVerified,
    AddressClaimed,
    NoSuchUser,
}

impl Code {
    /// The word in `code` and at the end of `type`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::InvalidParameter => "invalid_parameter",
            Self::InvalidCursor => "invalid_cursor",
            Self::TenantRequired => "tenant_required",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::AlreadyDelivered => "already_delivered",
            Self::AlreadyDiscarded => "already_discarded",
            Self::AlreadyCompleted => "already_completed",
            Self::EndpointDisabled => "endpoint_disabled",
            Self::AlreadyCancelled => "already_cancelled",
            Self::TooLate => "too_late",
            Self::EventTypeExists => "event_type_exists",
            Self::ExternalIdTaken => "external_id_taken",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::ValidationFailed => "validation_failed",
            Self::EventTypeArchived => "event_type_archived",
            Self::SchemaTooExpensive => "schema_too_expensive",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::StorageFull => "storage_full",
            Self::ApiKeyEnded => "api_key_ended",
            Self::RequestTimeout => "request_timeout",
            Self::TookTooLong => "took_too_long",
            Self::UriTooLong => "uri_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::RateLimited => "rate_limited",
            Self::SecretUnreadable => "secret_unreadable",
            Self::InvalidCredentials => "invalid_credentials",
            Self::SignInLocked => "sign_in_locked",
            Self::EmailNotVerified => "email_not_verified",
            Self::UserDisabled => "user_disabled",
            Self::UserExists => "user_exists",
            Self::IdempotencyKeyInUse => "idempotency_key_in_use",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::SignInOver => "sign_in_over",
            Self::ProviderRefused => "provider_refused",
            Self::ProviderInvalid => "provider_invalid",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::AddressNotVerified => "address_not_verified",
            Self::AddressClaimed => "address_claimed",
            Self::NoSuchUser => "no_such_user",
        }
    }

    /// The HTTP status.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson
            | Self::InvalidParameter
            | Self::InvalidCursor
            | Self::TenantRequired => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound | Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::IdempotencyKeyReused
            | Self::AlreadyDelivered
            | Self::AlreadyDiscarded
            | Self::AlreadyCompleted
            | Self::EndpointDisabled
            | Self::AlreadyCancelled
            | Self::TooLate
            | Self::EventTypeExists
            | Self::ExternalIdTaken
            | Self::ApiKeyEnded => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ValidationFailed | Self::EventTypeArchived | Self::SchemaTooExpensive => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Internal | Self::SecretUnreadable => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::TookTooLong => StatusCode::SERVICE_UNAVAILABLE,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
            Self::RateLimited | Self::SignInLocked | Self::TooManyInFlight => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::InvalidCredentials => StatusCode::UNAUTHORIZED,
            Self::EmailNotVerified | Self::UserDisabled => StatusCode::FORBIDDEN,
            Self::UserExists | Self::IdempotencyKeyInUse => StatusCode::CONFLICT,
            Self::SignInOver => StatusCode::BAD_REQUEST,
            Self::ProviderRefused
            | Self::AddressNotVerified
            | Self::AddressClaimed
            | Self::NoSuchUser => StatusCode::FORBIDDEN,
            Self::ProviderInvalid => StatusCode::BAD_GATEWAY,
            Self::ProviderUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What the code means, the same for every occurrence.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::MalformedJson => "The body is not JSON",
            Self::InvalidParameter => "A parameter is invalid",
            Self::InvalidCursor => "The cursor is invalid",
            Self::TenantRequired => "A tenant has to be named",
            Self::Unauthorized => "No valid API key or access token",
            Self::Forbidden => "The caller may not do this",
            Self::NotFound => "Not found",
            Self::RouteNotFound => "There is nothing at this path",
            Self::MethodNotAllowed => "This path does not take this method",
            Self::IdempotencyKeyReused => "The idempotency key belongs to another request",
            Self::AlreadyDelivered => "It was delivered already",
            Self::AlreadyDiscarded => "It was discarded",
            Self::AlreadyCompleted => "It was completed already",
            Self::EndpointDisabled => "The endpoint is disabled",
            Self::AlreadyCancelled => "It was cancelled",
            Self::TooLate => "It is too late for that",
            Self::EventTypeExists => "There is an event type with this name",
            Self::ExternalIdTaken => "The external id is taken",
            Self::PayloadTooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body has to be JSON, not compressed",
            Self::ValidationFailed => "The body is not valid",
            Self::EventTypeArchived => "The event type is archived",
            Self::SchemaTooExpensive => "The schema costs too much to check",
            Self::Internal => "Something went wrong here",
            Self::Unavailable => "Not available right now",
            Self::StorageFull => "The service has no room left to store anything",
            Self::ApiKeyEnded => "The API key is revoked or has expired",
            Self::RequestTimeout => "The request did not arrive in time",
            Self::TookTooLong => "It took too long",
            Self::UriTooLong => "The URL is too long",
            Self::HeadersTooLarge => "The headers are too large",
            Self::RateLimited => "Too many requests",
            Self::SecretUnreadable => "A stored secret cannot be read",
            Self::InvalidCredentials => "The address or the password is wrong",
            Self::SignInLocked => "Too many sign-ins have failed",
            Self::EmailNotVerified => "The address is not verified yet",
            Self::UserDisabled => "The user is disabled",
            Self::UserExists => "There is a user with this address",
            Self::IdempotencyKeyInUse => {
                "The first request with this idempotency key is still running"
            }
            Self::TooManyInFlight => "Too many requests with an idempotency key are in flight",
            Self::SignInOver => "This sign-in is over",
            Self::ProviderRefused => "The provider refused the sign-in",
            Self::ProviderInvalid => "The provider's answer is not valid",
            Self::ProviderUnavailable => "The provider does not answer",
            Self::AddressNotVerified => "The provider has not verified the address",
            Self::AddressClaimed => "The address is claimed and not verified",
            Self::NoSuchUser => "There is no such user",
        }
    }

    /// Whether the same request may succeed later.
    pub(crate) const fn retryable(self) -> bool {
        match self {
            Self::Internal
            | Self::Unavailable
            | Self::StorageFull
            | Self::RequestTimeout
            | Self::TookTooLong
            | Self::SecretUnreadable
            | Self::SignInLocked
            | Self::RateLimited
            | Self::IdempotencyKeyInUse
            | Self::TooManyInFlight
            | Self::ProviderUnavailable => true,
            Self::MalformedJson
            | Self::InvalidParameter
            | Self::InvalidCursor
            | Self::TenantRequired
            | Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::RouteNotFound
            | Self::MethodNotAllowed
            | Self::IdempotencyKeyReused
            | Self::AlreadyDelivered
            | Self::AlreadyDiscarded
            | Self::AlreadyCompleted
            | Self::EndpointDisabled
            | Self::AlreadyCancelled
            | Self::TooLate
            | Self::EventTypeExists
            | Self::ExternalIdTaken
            | Self::PayloadTooLarge
            | Self::UnsupportedMediaType
            | Self::ValidationFailed
            | Self::EventTypeArchived
            | Self::SchemaTooExpensive
            | Self::ApiKeyEnded
            | Self::UriTooLong
            | Self::HeadersTooLarge
            | Self::InvalidCredentials
            | Self::EmailNotVerified
            | Self::UserDisabled
            | Self::UserExists
            | Self::SignInOver
            | Self::ProviderRefused
            | Self::ProviderInvalid
            | Self::AddressNotVerified
            | Self::AddressClaimed
            | Self::NoSuchUser => false,
        }
    }
}

/// What is wrong with one field of the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Object)]
#[oai(example)]
pub(crate) struct FieldError {
    /// Where in the body: `url`, `to[0]`, `headers.X-Own`.
    pub(crate) path: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

impl Example for FieldError {
    fn example() -> Self {
        Self {
            path: "url".to_owned(),
            message: "expected an http or https URL".to_owned(),
        }
    }
}

/// An error, as RFC 9457 has it.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(crate) struct Problem {
    /// A URI that stands for the kind of error: `urn:relaypost:problem:<code>`.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    pub(crate) kind: String,
    /// What the kind of error means.
    pub(crate) title: String,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What went wrong this time.
    pub(crate) detail: String,
    /// The kind of error in one word; this is what a program looks at.
    pub(crate) code: String,
    /// The id of the request, which is in the log of the service too.
    pub(crate) request_id: String,
    /// Whether the same request may succeed later.
    pub(crate) retryable: bool,
    /// What is wrong with which field, when the body is not valid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[oai(default)]
    pub(crate) errors: Vec<FieldError>,
}

impl Example for Problem {
    fn example() -> Self {
        let request_id = example_id::<ids::Request>().to_string();
        ApiError::invalid(vec![FieldError::example()]).problem(&request_id)
    }
}

/// An error on its way out. The outermost layer turns it into a [`Problem`] and logs its cause.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", .code.as_str())]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    /// After how many seconds the same request may succeed, where that is known.
    retry_after: Option<u32>,
    /// What the log gets and the client does not.
    pub(crate) cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl ApiError {
    /// An error with this code and these words for the client.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// There is no such thing, or it belongs to somebody else, which must look the same.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// Fields of the body are not valid.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        Self::of_fields(Code::ValidationFailed, errors)
    }

    /// An error with this code that fields of the body are the reason for.
    pub(crate) fn of_fields(code: Code, errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [FieldError { path, message }] if path.is_empty() => message.clone(),
            [FieldError { path, message }] => format!("{path}: {message}"),
            several => format!("{} fields are not valid", several.len()),
        };
        Self {
            errors,
            ..Self::new(code, detail)
        }
    }

    /// One field of the body is not valid.
    pub(crate) fn field(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError {
            path: path.into(),
            message: message.into(),
        }])
    }

    /// A fault of ours, whose cause only the log gets.
    pub(crate) fn caused(code: Code, cause: impl StdError + Send + Sync + 'static) -> Self {
        let detail = match code {
            Code::Unavailable => "the service cannot do this right now; try again",
            Code::StorageFull => {
                "nothing was stored, because the disk of the database is full; try again once an operator has made room"
            }
            Code::SecretUnreadable => {
                "the service cannot open what it has stored; the request id leads to the log entry, which says why"
            }
            _ => "the service failed; the request id leads to the log entry",
        };
        Self {
            cause: Some(Arc::new(cause)),
            ..Self::new(code, detail)
        }
    }

    /// The same error with the header `Retry-After`, in seconds.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    pub(crate) fn problem(&self, request_id: &str) -> Problem {
        Problem {
            kind: format!("urn:relaypost:problem:{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.clone().into_owned(),
            code: self.code.as_str().to_owned(),
            request_id: request_id.to_owned(),
            retryable: self.code.retryable(),
            errors: self.errors.clone(),
        }
    }

    /// The answer that the client gets.
    pub(crate) fn response(&self, request_id: &str) -> Response {
        let body = serde_json::to_vec(&self.problem(request_id)).unwrap_or_default();
        let mut response = Response::builder()
            .status(self.code.status())
            .content_type(CONTENT_TYPE)
            .body(body);
        let headers = response.headers_mut();
        match self.code {
            Code::Unauthorized | Code::InvalidCredentials => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::Unavailable
            | Code::TookTooLong
            | Code::IdempotencyKeyInUse
            | Code::TooManyInFlight
            | Code::ProviderUnavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // Room has to be made by a person.
            Code::StorageFull => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            }
            // The rest of the body may still come, and nobody would read it.
            Code::RequestTimeout => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

// poem carries it as an error; the outermost layer takes it out again and makes the answer, with the request's id.
impl ResponseError for ApiError {
    fn status(&self) -> StatusCode {
        self.code.status()
    }
}

/// An operation whose error is this one declares none of its own: those that follow from what it takes are added by
/// `http::document`. Others are declared with [`super::FailsWith`].
impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: Vec::new(),
        }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}
