//! Every error that is not ours, made ours: the framework's and the database's.

use poem::error::{MethodNotAllowedError, NotFoundError, ReadBodyError};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};
use relaypost_shared::{
    batch::BatchLost,
    db::{is_broken, is_full, is_unavailable},
    secrets::{OpenError, SealError},
};
use sea_orm::DbErr;

use super::{
    incoming,
    problem::{ApiError, Code},
};

impl From<poem::Error> for ApiError {
    fn from(error: poem::Error) -> Self {
        if let Some(ours) = error.downcast_ref::<Self>() {
            ours.clone()
        } else if error.is::<NotFoundError>() {
            Self::new(Code::RouteNotFound, "no operation has this path")
        } else if error.is::<MethodNotAllowedError>() {
            Self::new(
                Code::MethodNotAllowed,
                "the `Allow` header lists the methods of this path",
            )
        } else if error.is::<ParsePathError>() || error.is::<poem::error::ParsePathError>() {
            // What is no id, or not even UTF-8, is the id of nothing.
            Self::not_found("thing")
        } else if let Some(error) = error.downcast_ref::<ParseParamError>() {
            parameter(error)
        } else if let Some(error) = error.downcast_ref::<ContentTypeError>() {
            Self::new(Code::UnsupportedMediaType, error.to_string())
        } else if let Some(error) = error.downcast_ref::<ReadBodyError>() {
            body(error)
        } else {
            Self::caused(Code::Internal, error)
        }
    }
}

fn parameter(error: &ParseParamError) -> ApiError {
    match error.name {
        "cursor" => ApiError::new(
            Code::InvalidCursor,
            "the cursor has to be a `next_cursor` of this list, unchanged",
        ),
        name => ApiError::new(
            Code::InvalidParameter,
            format!("{name}: {}", plain(&error.reason)),
        ),
    }
}

/// The framework wraps the reason in the names of its types: `failed to parse "…": reason (occurred while parsing "…")`.
fn plain(reason: &str) -> &str {
    let reason = match reason.strip_prefix("failed to parse \"") {
        Some(rest) => rest.split_once("\": ").map_or(rest, |(_, reason)| reason),
        None => reason,
    };
    reason
        .split_once(" (occurred while parsing")
        .map_or(reason, |(reason, _)| reason)
}

fn body(error: &ReadBodyError) -> ApiError {
    match error {
        ReadBodyError::PayloadTooLarge => {
            ApiError::new(Code::PayloadTooLarge, "the body is too large")
        }
        ReadBodyError::Utf8(_) => ApiError::new(Code::MalformedJson, "the body is not UTF-8"),
        ReadBodyError::Io(error) => incoming::refusal(error),
        ReadBodyError::BodyHasBeenTaken => ApiError::new(Code::Internal, "the body was read twice"),
    }
}

impl From<BatchLost> for ApiError {
    fn from(lost: BatchLost) -> Self {
        Self::caused(Code::Unavailable, lost)
    }
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        Self::caused(Code::SecretUnreadable, error)
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        Self::caused(Code::Internal, error)
    }
}

impl From<DbErr> for ApiError {
    fn from(error: DbErr) -> Self {
        let code = if is_full(&error) {
            Code::StorageFull
        } else if is_unavailable(&error) || is_broken(&error) {
            Code::Unavailable
        } else {
            Code::Internal
        };
        Self::caused(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_bad_parameter_names_no_type_of_the_program() {
        let reason =
            "failed to parse \"optional_x\": expected a number (occurred while parsing \"y\")";
        assert_eq!(plain(reason), "expected a number");
        assert_eq!(plain("a reason"), "a reason");
    }
}
