//! The words of replaying and discarding dead letters, one or many, and of recovering what an endpoint has missed: what a job
//! is about, and what a filter names. The API makes jobs and counts what they would do, the workers carry them out, and
//! [`crate::store::replay`] finds and changes the rows.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    delivery::{DeliveryKind, ErrorClass, Reason},
    ids::{DeliveryId, EndpointId},
};

pub use crate::store::replay::{count, discarding, reviving, take_back_dead};

/// The deliveries that a job is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// These deliveries, in ascending order and each once.
    Ids(Vec<DeliveryId>),
    /// Every dead letter that fits.
    Filter(Filter),
    /// Messages of a span of time that an endpoint did not get.
    Missed(Missed),
}

/// A span of time in the life of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Messages accepted at this time or later.
    pub since: Timestamp,
    /// Messages accepted before this time.
    pub until: Timestamp,
}

/// Conditions on a delivery. It has to meet all that are given; without any, every delivery does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Its kind.
    pub kind: Option<DeliveryKind>,
    /// The endpoint that it goes to.
    pub endpoint_id: Option<EndpointId>,
    /// The type of its message, which only webhooks have.
    pub event_type: Option<String>,
    /// The reason why it is dead.
    pub reason: Option<Reason>,
    /// The class of error that its last attempt failed with.
    pub error_class: Option<ErrorClass>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
    /// Leaves out mails that may have arrived (dead with the reason `uncertain`).
    pub except_uncertain: bool,
}
