//! Which fault strikes when: drawn from a seed, so that a run can be repeated.

use std::{fmt, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use relaypost_testkit::Silence;

/// API processes, and workers.
pub(crate) const FLEET: usize = 2;
/// One fault in this time on average.
const PACE: Duration = Duration::from_secs(6);
/// One fault in this time, when only one kind strikes: most are over by then, and one that goes silent needs longer.
const PACE_ALONE: Duration = Duration::from_secs(10);
const PACE_SILENT: Duration = Duration::from_secs(20);
/// The part of the load in which faults strike: it begins and ends in peace.
const SPAN: std::ops::Range<f64> = 0.05..0.92;
/// Where in its stretch of time a fault strikes: early, so that what comes of it does so before the next one.
const EARLY: std::ops::Range<f64> = 0.0..0.5;
/// How long after the first of two faults that come together the second one strikes.
const TOGETHER_MS: std::ops::Range<u64> = 0..2_000;
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
    /// Every open connection to PostgreSQL goes silent; new ones work.
    SilentDatabase(Silence),
    /// Every open connection to Redis goes silent; new ones work.
    SilentRedis(Silence),
}

const SILENCES: [Silence; 3] = [Silence::BothWays, Silence::Answers, Silence::ServerGone];

impl Fault {
    /// Every kind that strikes the fleet, each on one of the processes.
    pub(crate) fn every(random: &mut StdRng) -> [Self; 9] {
        let [database, redis] = [(); 2].map(|()| SILENCES[random.random_range(0..SILENCES.len())]);
        let mut one = || random.random_range(0..FLEET);
        [
            Self::KillApi(one()),
            Self::KillWorker(one()),
            Self::StopApi(one()),
            Self::StopWorker(one()),
            Self::CrashPostgres,
            Self::FlushRedis,
            Self::LoseRedis,
            Self::SilentDatabase(database),
            Self::SilentRedis(redis),
        ]
    }

    /// The name of its kind, for `FAULTS`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillApi(_) => "kill-api",
            Self::KillWorker(_) => "kill-worker",
            Self::StopApi(_) => "stop-api",
            Self::StopWorker(_) => "stop-worker",
            Self::CrashPostgres => "crash-postgres",
            Self::FlushRedis => "flush-redis",
            Self::LoseRedis => "lose-redis",
            Self::SilentDatabase(_) => "silent-database",
            Self::SilentRedis(_) => "silent-redis",
        }
    }

    /// From how many workers' slots deliveries can be sent a second time because of it. A killed worker forgets what it
    /// has sent and not recorded. A Redis that is empty knows of nothing that is in flight, until each worker has told it
    /// again; one that cannot be reached takes each worker for dead until it says that it lives. Nothing else is an excuse: what
    /// is sent stays with its worker until it is recorded.
    pub(crate) fn workers_concerned(self) -> usize {
        match self {
            Self::KillWorker(_) => 1,
            Self::FlushRedis | Self::LoseRedis | Self::SilentRedis(_) => FLEET,
            Self::KillApi(_)
            | Self::StopApi(_)
            | Self::StopWorker(_)
            | Self::CrashPostgres
            | Self::SilentDatabase(_) => 0,
        }
    }

    /// Whether deliveries can be sent a second time until it is over, and not only when it strikes.
    pub(crate) fn lasts(self) -> bool {
        matches!(
            self,
            Self::FlushRedis | Self::LoseRedis | Self::SilentRedis(_)
        )
    }

    /// Whether a process is away until it is started again.
    fn takes_away(self) -> bool {
        match self {
            Self::KillApi(_) | Self::KillWorker(_) | Self::StopApi(_) | Self::StopWorker(_) => true,
            Self::LoseRedis => true,
            Self::CrashPostgres | Self::FlushRedis => false,
            Self::SilentDatabase(_) | Self::SilentRedis(_) => false,
        }
    }

    /// How often it strikes when no other kind does.
    fn pace_alone(self) -> Duration {
        match self {
            Self::SilentDatabase(_) | Self::SilentRedis(_) => PACE_SILENT,
            _ => PACE_ALONE,
        }
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
            Self::SilentDatabase(silence) => {
                write!(f, "silent PostgreSQL connections ({silence:?})")
            }
            Self::SilentRedis(silence) => write!(f, "silent Redis connections ({silence:?})"),
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

/// Draws a plan for this much load: every kind of fault once for itself, so that it alone is to blame for what comes of
/// it, and for the rest of the time two faults together. The order is random, and so are the moments.
pub(crate) fn draw(seed: u64, load: Duration) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut groups: Vec<Vec<Fault>> = Fault::every(&mut random).map(|fault| vec![fault]).into();
    let wanted = load.as_millis() / PACE.as_millis();
    while (groups.iter().flatten().count() as u128) < wanted {
        let mut faults = Fault::every(&mut random);
        faults.shuffle(&mut random);
        groups.push(faults[..2].to_vec());
    }
    groups.shuffle(&mut random);
    spread(groups, load, &mut random)
}

/// Draws a plan in which only the kind of this name strikes, again and again. `None`: there is no such kind.
pub(crate) fn draw_alone(seed: u64, load: Duration, name: &str) -> Option<Vec<Planned>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut one = || {
        let mut every = Fault::every(&mut random).into_iter();
        every.find(|fault| fault.name() == name)
    };
    let first = one()?;
    let strikes = (load.as_millis() / first.pace_alone().as_millis()).max(1);
    let groups = (0..strikes).filter_map(|_| Some(vec![one()?])).collect();
    Some(spread(groups, load, &mut random))
}

/// Gives each group of faults a stretch of the load, and each fault its moment in it.
fn spread(groups: Vec<Vec<Fault>>, load: Duration, random: &mut StdRng) -> Vec<Planned> {
    let stretch = load.mul_f64((SPAN.end - SPAN.start) / groups.len() as f64);
    let mut plan = Vec::new();
    for (number, faults) in groups.into_iter().enumerate() {
        let begin = load.mul_f64(SPAN.start) + stretch.mul_f64(number as f64);
        let moment = begin + stretch.mul_f64(random.random_range(EARLY));
        for (place, fault) in faults.into_iter().enumerate() {
            let behind = Duration::from_millis(random.random_range(TOGETHER_MS));
            let away = Duration::from_millis(random.random_range(0..AWAY_MS));
            plan.push(Planned {
                at: moment + behind.mul_f64(place as f64),
                fault,
                away: if fault.takes_away() {
                    away
                } else {
                    Duration::ZERO
                },
            });
        }
    }
    plan.sort_by_key(|planned| planned.at);
    plan
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, mem::discriminant};

    use super::*;

    const LOAD: Duration = Duration::from_secs(120);
    const KINDS: usize = 9;

    #[test]
    fn a_seed_gives_the_same_plan_again_and_another_seed_another() {
        assert_eq!(draw(7, LOAD), draw(7, LOAD));
        assert_ne!(draw(7, LOAD), draw(8, LOAD));
    }

    #[test]
    fn every_kind_of_fault_strikes_once_for_itself() {
        let near = Duration::from_secs(2);
        for seed in 0..50 {
            let plan = draw(seed, LOAD);
            let others = |one: &Planned| {
                let near = |other: &&Planned| other.at.abs_diff(one.at) < near;
                plan.iter().filter(near).count() - 1
            };
            let alone = plan.iter().filter(|one| others(one) == 0);
            let kinds: HashSet<_> = alone.map(|one| discriminant(&one.fault)).collect();
            assert_eq!(kinds.len(), KINDS, "seed {seed}");
            assert!(plan.iter().any(|one| others(one) > 0), "seed {seed}");
        }
    }

    #[test]
    fn each_kind_can_strike_alone() {
        for fault in Fault::every(&mut StdRng::seed_from_u64(7)) {
            let plan = draw_alone(7, Duration::from_secs(40), fault.name()).unwrap();
            assert!(plan.len() >= 2, "{plan:?}");
            assert!(plan.iter().all(|one| one.fault.name() == fault.name()));
        }
        assert_eq!(draw_alone(7, LOAD, "plague"), None);
    }

    #[test]
    fn every_kind_of_fault_strikes_within_the_load_however_short_it_is() {
        for seed in 0..50 {
            for load in [Duration::from_secs(10), LOAD] {
                let plan = draw(seed, load);
                let kinds: HashSet<_> = plan.iter().map(|one| discriminant(&one.fault)).collect();
                assert_eq!(kinds.len(), KINDS);
                assert!(plan.iter().all(|one| one.at < load));
                assert!(plan.is_sorted_by_key(|one| one.at));
            }
        }
    }
}
