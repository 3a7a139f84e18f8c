//! A fault that has struck.

use std::time::{Duration, Instant};

use crate::plan::Fault;

/// After Redis is back, this long goes by until each worker has told it what it holds.
const TOLD: Duration = Duration::from_secs(3);

/// What it was, and what may have come of it.
#[derive(Clone, Debug)]
pub(crate) struct Struck {
    pub(crate) what: String,
    pub(crate) from: Instant,
    /// When everything was back.
    pub(crate) until: Instant,
    /// What is sent a second time can come of it until then.
    pub(crate) blamed_until: Instant,
    /// From how many workers' slots that can be: see [`Fault::workers_concerned`].
    pub(crate) workers_concerned: usize,
}

impl Struck {
    /// A fault of the plan.
    pub(crate) fn by(fault: Fault, from: Instant, until: Instant) -> Self {
        Self {
            what: fault.to_string(),
            from,
            until,
            blamed_until: if fault.lasts() { until + TOLD } else { from },
            workers_concerned: fault.workers_concerned(),
        }
    }
}
