//! Which fault strikes when: drawn from a seed, so that a run can be repeated.

use std::{fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

/// API processes, and workers.
pub(crate) const FLEET: usize = 2;
/// One fault in this time on average.
const PACE: Duration = Duration::from_secs(6);
/// The part of the load in which faults strike: it begins and ends in peace.
const SPAN: std::ops::Range<f64> = 0.05..0.92;
/// How long a process is away at most before it is started again.
const AWAY_MS: u64 = 4_000;

/// What goes wrong. A number says to which of the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of an API process.
    KillApi(usize),
    /// `kill -9` of a worker.
    KillWorker(usize),
    /// SIGTERM to an API process, which has to exit 0.
    StopApi(usize),
    /// SIGTERM to a worker, which has to exit 0.
    StopWorker(usize),
    /// PostgreSQL crashes and recovers.
    CrashPostgres,
    /// `FLUSHALL`.
    FlushRedis,
    /// Redis is killed and comes back empty.
    LoseRedis,
}

impl Fault {
    /// Every kind, each on one of the processes.
    fn every(random: &mut StdRng) -> [Self; 7] {
        let mut one = || random.random_range(0..FLEET);
        [
            Self::KillApi(one()),
            Self::KillWorker(one()),
            Self::StopApi(one()),
            Self::StopWorker(one()),
            Self::CrashPostgres,
            Self::FlushRedis,
            Self::LoseRedis,
        ]
    }

    /// From how many workers' slots deliveries can be sent a second time because of it. A killed worker forgets what it
    /// has sent and not recorded. A Redis that is empty knows of nothing that is in flight, until each worker has told it
    /// again. Nothing else is an excuse: what is sent stays with its worker until it is recorded.
    pub(crate) fn workers_concerned(self) -> usize {
        match self {
            Self::KillWorker(_) => 1,
            Self::FlushRedis | Self::LoseRedis => FLEET,
            Self::KillApi(_) | Self::StopApi(_) | Self::StopWorker(_) | Self::CrashPostgres => 0,
        }
    }

    /// Whether something is away until it is started again.
    fn takes_away(self) -> bool {
        !matches!(self, Self::CrashPostgres | Self::FlushRedis)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillApi(slot) => write!(f, "kill -9 of API {slot}"),
            Self::KillWorker(slot) => write!(f, "kill -9 of worker {slot}"),
            Self::StopApi(slot) => write!(f, "SIGTERM to API {slot}"),
            Self::StopWorker(slot) => write!(f, "SIGTERM to worker {slot}"),
            Self::CrashPostgres => f.write_str("PostgreSQL restart -m immediate"),
            Self::FlushRedis => f.write_str("Redis FLUSHALL"),
            Self::LoseRedis => f.write_str("Redis kill and empty restart"),
        }
    }
}

/// One fault of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    /// After the beginning of the load.
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    /// How long the process is away before it is started again.
    pub(crate) away: Duration,
}

/// Draws a plan for this much load: every kind of fault at least once, at random moments, some while others last.
pub(crate) fn draw(seed: u64, load: Duration) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Fault::every(&mut random).to_vec();
    let wanted = load.as_millis() / PACE.as_millis();
    while (faults.len() as u128) < wanted {
        let [first, ..] = {
            let mut kinds = Fault::every(&mut random);
            kinds.shuffle(&mut random);
            kinds
        };
        faults.push(first);
    }
    let mut plan: Vec<Planned> = faults
        .into_iter()
        .map(|fault| Planned {
            at: load.mul_f64(random.random_range(SPAN)),
            fault,
            away: Duration::from_millis(if fault.takes_away() {
                random.random_range(0..AWAY_MS)
            } else {
                0
            }),
        })
        .collect();
    plan.sort_by_key(|planned| planned.at);
    plan
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, mem::discriminant};

    use super::*;

    const LOAD: Duration = Duration::from_secs(120);

    #[test]
    fn a_seed_gives_the_same_plan_again_and_another_seed_another() {
        assert_eq!(draw(7, LOAD), draw(7, LOAD));
        assert_ne!(draw(7, LOAD), draw(8, LOAD));
    }

    #[test]
    fn every_kind_of_fault_strikes_within_the_load_however_short_it_is() {
        for seed in 0..50 {
            for load in [Duration::from_secs(10), LOAD] {
                let plan = draw(seed, load);
                let kinds: HashSet<_> = plan.iter().map(|one| discriminant(&one.fault)).collect();
                assert_eq!(kinds.len(), 7);
                assert!(plan.iter().all(|one| one.at < load));
                assert!(plan.is_sorted_by_key(|one| one.at));
            }
        }
    }
}
