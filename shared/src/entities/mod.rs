//! The tables. Each file is one table, with the finders that more than one crate needs; a finder of something that
//! belongs to a tenant takes the tenant.

pub mod api_key;
pub mod audit_log;
pub mod endpoint;
pub mod endpoint_secret;
pub mod event_type;
pub mod idempotency_key;
pub mod identity;
pub mod membership;
pub mod oauth_state;
pub mod one_time_token;
pub mod refresh_token;
pub mod session;
pub mod sign_in_attempt;
pub mod tenant;
pub mod user;

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

/// A list of texts in a JSON column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Texts(pub Vec<String>);

/// Names with values in a JSON column, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Pairs(pub Vec<(String, String)>);

/// Seconds in a JSON column: a retry schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Seconds(pub Vec<u32>);
