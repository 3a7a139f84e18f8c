//! A job as it stands in bodies: how far it is.

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    delivery::{ReplayKind, ReplayStatus},
    ids,
    store::read::replays::Progress,
};
use serde::Serialize;

use crate::http::{Moment, Ref, Text, example_id, example_time};

/// How many dead letters are selected now.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(super) struct Count {
    /// How many a job would replay, or discard.
    pub(super) count: u64,
}

/// A job that replays or discards many dead letters, or recovers what an endpoint has missed.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct ReplayJob {
    /// Its id.
    id: Ref<ids::Replay>,
    /// What it does.
    kind: Text<ReplayKind>,
    /// Where it stands.
    status: Text<ReplayStatus>,
    /// How many it selected when it was made. One of the kind `recover` adds the missed messages as it finds them.
    total: i32,
    /// How many it has sent off, or discarded.
    released: i32,
    /// How many of the total were no dead letters any more when their turn came. Known when it has gone through all.
    skipped: i32,
    /// How many it sends off a second. Without it: as many as the workers take.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<i32>,
    /// What came of them.
    by_outcome: ByOutcome,
    /// When it was made.
    created_at: Moment,
    /// When it was completed or cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Moment>,
}

/// What came of what a job selected. When it is completed the numbers add up to its `total`.
#[derive(Debug, Serialize, Object)]
struct ByOutcome {
    /// Sent off, and neither delivered nor dead yet.
    pending: i32,
    /// Delivered.
    delivered: i32,
    /// Dead again. What became of them after that is no longer counted here.
    dead: i32,
    /// Discarded by this job.
    discarded: i32,
    /// Left alone, because they were no dead letters any more.
    skipped: i32,
}

impl From<Progress> for ReplayJob {
    fn from(row: Progress) -> Self {
        let (sent, discarded) = match row.kind {
            ReplayKind::Discard => (0, row.released),
            ReplayKind::Replay | ReplayKind::Recover => (row.released, 0),
        };
        Self {
            id: row.id.into(),
            kind: row.kind.into(),
            status: row.status.into(),
            total: row.total,
            released: row.released,
            skipped: row.skipped,
            rate_per_s: row.rate_per_s,
            by_outcome: ByOutcome {
                pending: sent - row.delivered - row.dead,
                delivered: row.delivered,
                dead: row.dead,
                discarded,
                skipped: row.skipped,
            },
            created_at: row.created_at.into(),
            finished_at: row.finished_at.map(Text),
        }
    }
}

impl Example for Count {
    fn example() -> Self {
        Self { count: 1_200 }
    }
}

impl Example for ReplayJob {
    fn example() -> Self {
        Progress {
            id: example_id(),
            kind: ReplayKind::Replay,
            status: ReplayStatus::Running,
            rate_per_s: Some(100),
            total: 1_200,
            released: 350,
            skipped: 0,
            delivered: 320,
            dead: 10,
            created_at: example_time(),
            finished_at: None,
        }
        .into()
    }
}
