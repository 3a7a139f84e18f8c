//! What the operations on jobs answer with.

use poem::{IntoResponse, Response, http::StatusCode};
use poem_openapi::{
    ApiResponse,
    registry::{MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};

use super::body::{Count, ReplayJob};
use crate::{
    http::{
        Queued, Reply,
        reply::{documented, json, replayed, replayed_header},
    },
    idempotency::Accepted,
};

const AGAIN: &str = "The `Idempotency-Key` is known: the body of the first answer again.";

/// 202 with a job that was made, or 200 with the bytes of an earlier 202 when the request's `Idempotency-Key` is known.
#[derive(Debug)]
pub(super) struct Made(pub(super) Accepted);

/// The same, or 200 with a count when the request asks for no more.
#[derive(Debug)]
pub(super) enum MadeOrCounted {
    Made(Made),
    Counted(Reply<Count>),
}

impl IntoResponse for Made {
    fn into_response(self) -> Response {
        match self.0 {
            Accepted::First(body) => json(StatusCode::ACCEPTED, body),
            Accepted::Again(body) => replayed(body),
        }
    }
}

impl IntoResponse for MadeOrCounted {
    fn into_response(self) -> Response {
        match self {
            Self::Made(made) => made.into_response(),
            Self::Counted(count) => count.into_response(),
        }
    }
}

fn again(description: &'static str) -> MetaResponse {
    MetaResponse {
        headers: vec![replayed_header(false)],
        ..documented::<ReplayJob>(200, description)
    }
}

impl ApiResponse for Made {
    fn meta() -> MetaResponses {
        let mut meta = Queued::<ReplayJob>::meta();
        meta.responses.insert(0, again(AGAIN));
        meta
    }

    fn register(registry: &mut Registry) {
        ReplayJob::register(registry);
    }
}

impl ApiResponse for MadeOrCounted {
    fn meta() -> MetaResponses {
        let mut known = again(
            "With `dry_run`: the count. Or the `Idempotency-Key` is known: the body of the first answer again.",
        );
        for content in &mut known.content {
            content.schema = MetaSchemaRef::Inline(Box::new(MetaSchema {
                one_of: vec![Count::schema_ref(), ReplayJob::schema_ref()],
                ..MetaSchema::ANY
            }));
        }
        let mut meta = Queued::<ReplayJob>::meta();
        meta.responses.insert(0, known);
        meta
    }

    fn register(registry: &mut Registry) {
        Count::register(registry);
        ReplayJob::register(registry);
    }
}
