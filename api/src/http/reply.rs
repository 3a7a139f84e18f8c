//! Answers that went well. Bodies are written by serde, so that kept JSON goes out byte for byte.

use std::marker::PhantomData;

use bytes::Bytes;
use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode},
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type,
};
use serde::Serialize;

use super::problem::{ApiError, Code};
use crate::idempotency::Accepted;

const JSON: &str = "application/json";
/// Says that an answer is a repeated one.
const REPLAYED: &str = "Idempotency-Replayed";

/// The status `STATUS` with the body `T`.
#[derive(Debug)]
pub(crate) struct Answer<T, const STATUS: u16>(Bytes, PhantomData<fn() -> T>);

/// 200 with the body `T`.
pub(crate) type Reply<T> = Answer<T, 200>;

/// 201 with the body `T`.
pub(crate) type Created<T> = Answer<T, 201>;

/// 202 with the body `T`.
pub(crate) type Queued<T> = Answer<T, 202>;

/// 201 with the body `C` for something new, or 200 with the body `F` for something that was there.
#[derive(Debug)]
pub(crate) enum Upserted<C, F = C> {
    /// It is new.
    Created(Created<C>),
    /// It was there, and is now as the request wants it.
    Found(Reply<F>),
}

/// 204.
#[derive(Debug)]
pub(crate) struct NoContent;

/// 201 with the body `T`, or 200 with the bytes of an earlier 201 when the request's `Idempotency-Key` is known.
#[derive(Debug)]
pub(crate) struct Recorded<T> {
    body: Bytes,
    replayed: bool,
    shape: PhantomData<fn() -> T>,
}

/// 200 with the body `T`, or with the bytes of an earlier answer when the request's `Idempotency-Key` is known.
#[derive(Debug)]
pub(crate) struct Repeatable<T> {
    body: Bytes,
    replayed: bool,
    shape: PhantomData<fn() -> T>,
}

impl<T: Serialize> Repeatable<T> {
    /// The first answer.
    pub(crate) fn first(body: Bytes) -> Self {
        Self {
            body,
            replayed: false,
            shape: PhantomData,
        }
    }

    /// An earlier answer.
    pub(crate) fn again(body: Bytes) -> Self {
        Self {
            replayed: true,
            ..Self::first(body)
        }
    }
}

impl<T: Serialize, const STATUS: u16> Answer<T, STATUS> {
    /// The answer with this body.
    ///
    /// # Errors
    /// 500 when the value cannot be JSON, which no value of this API is.
    pub(crate) fn of(body: &T) -> Result<Self, ApiError> {
        to_bytes(body).map(|bytes| Self(bytes, PhantomData))
    }
}

impl<T, const STATUS: u16> Answer<T, STATUS> {
    /// The status, and the answer as the document describes it.
    const MEANING: (StatusCode, &str) = match STATUS {
        200 => (StatusCode::OK, "Found."),
        201 => (StatusCode::CREATED, "Created."),
        202 => (
            StatusCode::ACCEPTED,
            "Queued; it happens in the background.",
        ),
        // Where one is used, it does not compile.
        _ => panic!("a status without a meaning"),
    };
}

impl<T> From<Accepted> for Recorded<T> {
    fn from(accepted: Accepted) -> Self {
        let (body, replayed) = match accepted {
            Accepted::First(body) => (body, false),
            Accepted::Again(body) => (body, true),
        };
        Self {
            body,
            replayed,
            shape: PhantomData,
        }
    }
}

/// The bytes of a body.
///
/// # Errors
/// 500 when the value cannot be JSON, which no value of this API is.
pub(crate) fn to_bytes(body: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|error| ApiError::caused(Code::Internal, error))
}

pub(crate) fn json(status: StatusCode, body: Bytes) -> Response {
    Response::builder()
        .status(status)
        .content_type(JSON)
        .body(body)
}

impl<T: Send, const STATUS: u16> IntoResponse for Answer<T, STATUS> {
    fn into_response(self) -> Response {
        json(Self::MEANING.0, self.0)
    }
}

impl<C: Send, F: Send> IntoResponse for Upserted<C, F> {
    fn into_response(self) -> Response {
        match self {
            Self::Created(created) => created.into_response(),
            Self::Found(found) => found.into_response(),
        }
    }
}

impl IntoResponse for NoContent {
    fn into_response(self) -> Response {
        Response::builder().status(StatusCode::NO_CONTENT).finish()
    }
}

impl<T: Send> IntoResponse for Recorded<T> {
    fn into_response(self) -> Response {
        if !self.replayed {
            return json(StatusCode::CREATED, self.body);
        }
        replayed(self.body)
    }
}

impl<T: Send> IntoResponse for Repeatable<T> {
    fn into_response(self) -> Response {
        if !self.replayed {
            return json(StatusCode::OK, self.body);
        }
        replayed(self.body)
    }
}

/// 200 with the bytes of an earlier answer.
pub(crate) fn replayed(body: Bytes) -> Response {
    let mut response = json(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}

pub(crate) fn documented<T: Type>(status: u16, description: &'static str) -> MetaResponse {
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: JSON,
            schema: T::schema_ref(),
        }],
        headers: vec![],
    }
}

impl<T: Type, const STATUS: u16> ApiResponse for Answer<T, STATUS> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![documented::<T>(STATUS, Self::MEANING.1)],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<C: Type, F: Type> ApiResponse for Upserted<C, F> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![
                documented::<F>(200, "It was there, and is as the body wants it."),
                documented::<C>(201, "Created."),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        F::register(registry);
        C::register(registry);
    }
}

impl ApiResponse for NoContent {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Done.",
                status: Some(204),
                status_range: None,
                content: vec![],
                headers: vec![],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

/// The header of an answer that is given again.
pub(crate) fn replayed_header(required: bool) -> MetaHeader {
    MetaHeader {
        name: REPLAYED.to_owned(),
        description: Some("`true`: this is the answer to the earlier request.".to_owned()),
        required,
        deprecated: false,
        schema: bool::schema_ref(),
    }
}

impl<T: Type> ApiResponse for Repeatable<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                headers: vec![replayed_header(false)],
                ..documented::<T>(
                    200,
                    "Done, each item by itself; or the `Idempotency-Key` is known: the body of the first answer again.",
                )
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type> ApiResponse for Recorded<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![
                MetaResponse {
                    headers: vec![replayed_header(true)],
                    ..documented::<T>(
                        200,
                        "The `Idempotency-Key` is known: the body of the first answer again.",
                    )
                },
                documented::<T>(201, "Created."),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}
