//! What every slice uses to speak HTTP: reading bodies and parameters, answering, failing, paging, documenting.

pub(crate) mod allow;
pub(crate) mod checks;
pub(crate) mod client;
pub(crate) mod client_address;
pub(crate) mod closed;
pub(crate) mod cors;
pub(crate) mod declared;
pub(crate) mod docs;
pub(crate) mod document;
pub(crate) mod external_id;
pub(crate) mod failures;
pub(crate) mod header_map;
pub(crate) mod incoming;
pub(crate) mod items;
pub(crate) mod limits;
pub(crate) mod names;
pub(crate) mod outermost;
pub(crate) mod page;
pub(crate) mod parameters;
pub(crate) mod problem;
pub(crate) mod raw_json;
pub(crate) mod reply;
pub(crate) mod request_id;
pub(crate) mod strict_json;
pub(crate) mod text;
mod translate;

pub(crate) use checks::Checks;
pub(crate) use external_id::{ExternalId, ExternalIdTaken, NamedInPath};
pub(crate) use failures::{FailsWith, failures};
pub(crate) use header_map::HeaderMap;
pub(crate) use items::{Items, Results, read_item};
pub(crate) use names::EventTypeName;
pub(crate) use page::{Cursor, Limit, Page, Paging};
pub(crate) use problem::{ApiError, Code, FieldError};
pub(crate) use raw_json::RawJson;
pub(crate) use reply::{
    Created, NoContent, Queued, Recorded, Repeatable, Reply, Upserted, to_bytes,
};
pub(crate) use strict_json::StrictJson;
pub(crate) use text::{Moment, Ref, Text, TextValue, example_id, example_time};
