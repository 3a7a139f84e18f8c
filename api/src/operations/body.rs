//! How the service is doing, as it stands in bodies.

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    health::{Component, Found},
    scaling,
};
use serde::Serialize;

use crate::stats::Queues;

/// How the service is doing.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct ServiceHealth {
    /// `ok`, or `degraded` when the database or Redis cannot be used.
    pub(super) status: String,
    /// The database.
    pub(super) database: Part,
    /// Redis, or the queue inside the process.
    pub(super) redis: Part,
    /// How many jobs wait in each queue. Only for callers that may see figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queues: Option<Queues>,
    /// How many circuits are open or half-open. Counted up to 1,000. Only for callers that may see figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) circuits_open: Option<i64>,
}

/// A part that the service needs. It is looked at once a second at most.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Part {
    /// `ok` or `failed`.
    pub(super) status: String,
    /// How long it took to write something, in milliseconds.
    pub(super) latency_ms: f64,
    /// Why it has failed: `read-only`, `disk full`, `not reachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// The work that waits.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct Scaling {
    /// By lane.
    pub(super) lanes: Lanes,
}

/// The work that waits, by lane.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct Lanes {
    /// Live webhooks.
    pub(super) webhooks: LaneWork,
    /// Live emails.
    pub(super) emails: LaneWork,
    /// Replays of either kind.
    pub(super) bulk: LaneWork,
}

/// The work that waits in a lane.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct LaneWork {
    /// Everything that is queued, due or held back. Of what is not on the queue it counts up to 10,000 deliveries that are due
    /// and up to 10,000 that are held back, over all lanes.
    pub(super) backlog: u64,
    /// What a worker could start now: without deliveries that wait for their endpoint's rate, cap, circuit, pause or turn,
    /// for which more workers can do nothing. Counted over up to 1,000 endpoints on the queue and up to 10,000 deliveries
    /// that are due and not on the queue yet.
    pub(super) due_now: u64,
    /// For how long the oldest of what is due now has been due, in seconds; 0 when nothing is. A retry counts since it was put
    /// onto the queue, which happens again every ten minutes.
    pub(super) oldest_due_age_s: f64,
}

impl From<Found> for Part {
    fn from(found: Found) -> Self {
        let component = Component::from(found);
        Self {
            status: component.status.to_owned(),
            latency_ms: component.latency_ms,
            reason: component.reason,
        }
    }
}

impl From<scaling::Work> for Lanes {
    fn from(work: scaling::Work) -> Self {
        Self {
            webhooks: work.webhooks.into(),
            emails: work.emails.into(),
            bulk: work.bulk.into(),
        }
    }
}

impl From<scaling::LaneWork> for LaneWork {
    fn from(work: scaling::LaneWork) -> Self {
        Self {
            backlog: work.backlog,
            due_now: work.due_now,
            oldest_due_age_s: work.oldest_due_age_s,
        }
    }
}

impl Example for ServiceHealth {
    fn example() -> Self {
        Self {
            status: "ok".to_owned(),
            database: Part::example(),
            redis: Part::example(),
            queues: Some(Queues::example()),
            circuits_open: Some(2),
        }
    }
}

impl Example for Part {
    fn example() -> Self {
        Self {
            status: "ok".to_owned(),
            latency_ms: 1.5,
            reason: None,
        }
    }
}

impl Example for Scaling {
    fn example() -> Self {
        Self {
            lanes: Lanes::example(),
        }
    }
}

impl Example for Lanes {
    fn example() -> Self {
        Self {
            webhooks: LaneWork::example(),
            emails: LaneWork {
                backlog: 0,
                due_now: 0,
                oldest_due_age_s: 0.0,
            },
            bulk: LaneWork {
                backlog: 0,
                due_now: 0,
                oldest_due_age_s: 0.0,
            },
        }
    }
}

impl Example for LaneWork {
    fn example() -> Self {
        Self {
            backlog: 5_200,
            due_now: 200,
            oldest_due_age_s: 1.5,
        }
    }
}
