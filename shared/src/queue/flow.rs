//! What shares a place in the queue, and what it may do at a time.

use std::{fmt, str::FromStr};

use crate::{
    delivery::Ordering,
    entities::endpoint,
    ids::{DeliveryId, EndpointId, InvalidId, TenantId},
};

/// Whose jobs stand in one line: those of an endpoint, or the mails of a tenant. Within a tenant flows take turns, and
/// limits hold for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flow {
    /// Webhooks to one endpoint.
    Endpoint(EndpointId),
    /// A tenant's emails.
    Tenant(TenantId),
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Tenant(tenant) => tenant.fmt(f),
        }
    }
}

impl FromStr for Flow {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse()
            .map(Self::Endpoint)
            .or_else(|_| text.parse().map(Self::Tenant))
    }
}

/// What a flow may do at a time, over all workers and over the lanes that it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Jobs that are taken and not acknowledged, at most; 0 counts as 1. `None`: for an endpoint the default of the
    /// consumers, for a tenant's emails no cap.
    pub max_in_flight: Option<u32>,
    /// Jobs that are taken a second, at most, beside a burst of what goes in 100 ms; 0 counts as 1. `None`: any number.
    pub rate_per_s: Option<u32>,
}

impl Limits {
    /// Those that an endpoint has of its own. In order is one at a time.
    pub fn of(endpoint: &endpoint::Model) -> Self {
        let at_most = |limit: i32| u32::try_from(limit).unwrap_or(1);
        let max_in_flight = match endpoint.ordering {
            Some(Ordering::Fifo) => Some(1),
            None => endpoint.max_in_flight.map(at_most),
        };
        Self {
            max_in_flight,
            rate_per_s: endpoint.rate_limit_per_s.map(at_most),
        }
    }

    /// With the values that would stop a flow for good, since nothing could ever set them anew, raised to 1.
    pub(super) fn at_least_one(self) -> Self {
        Self {
            max_in_flight: self.max_in_flight.map(|cap| cap.max(1)),
            rate_per_s: self.rate_per_s.map(|rate| rate.max(1)),
        }
    }

    /// Whether anything that `other` permits is refused here. `cap` is the cap of a flow that has none of its own.
    pub(super) fn tighter_than(self, other: Self, cap: Option<u32>) -> bool {
        let cap = cap.unwrap_or(u32::MAX);
        self.max_in_flight.unwrap_or(cap) < other.max_in_flight.unwrap_or(cap)
            || self.rate_per_s.unwrap_or(u32::MAX) < other.rate_per_s.unwrap_or(u32::MAX)
    }
}

/// A flow with the tenant that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Owner {
    pub(super) tenant: TenantId,
    pub(super) flow: Flow,
}

impl Owner {
    /// The cap of this flow when it has none of its own: `default` is for endpoints.
    pub(super) fn default_cap(self, default: Option<u32>) -> Option<u32> {
        match self.flow {
            Flow::Endpoint(_) => default,
            Flow::Tenant(_) => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.tenant, self.flow)
    }
}

impl FromStr for Owner {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (tenant, flow) = text.split_once(' ').unwrap_or((text, ""));
        Ok(Self {
            tenant: tenant.parse()?,
            flow: flow.parse()?,
        })
    }
}

/// A job that was taken, and under which limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) delivery: DeliveryId,
    pub(super) owner: Owner,
    pub(super) limits: Limits,
}

/// What one look at the queue brought.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) jobs: Vec<Taken>,
    /// Without jobs: how long until a flow that is over its rate may go on.
    pub(super) wait: Option<std::time::Duration>,
}
