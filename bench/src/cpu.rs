//! What processes have used so far, read from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// The unit of `/proc/PID/stat`: Linux shows a hundredth of a second on every machine that this builds for.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of the processes of the product, of what it runs on, and of this one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) api: Duration,
    pub(crate) worker: Duration,
    pub(crate) postgres: Duration,
    pub(crate) redis: Duration,
    /// Load generator and receiver.
    pub(crate) bench: Duration,
}

impl Usage {
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            api: self.api.saturating_sub(before.api),
            worker: self.worker.saturating_sub(before.worker),
            postgres: self.postgres.saturating_sub(before.postgres),
            redis: self.redis.saturating_sub(before.redis),
            bench: self.bench.saturating_sub(before.bench),
        }
    }

    /// All but the load generator and the receiver.
    pub(crate) fn product(self) -> Duration {
        self.api + self.worker + self.postgres + self.redis
    }
}

/// Microseconds for each of `count`.
pub(crate) fn micros_each(used: Duration, count: usize) -> f64 {
    used.as_secs_f64() * 1e6 / count as f64
}

/// A process with all its threads, those that have ended included.
pub(crate) fn of_process(pid: u32) -> Result<Duration> {
    let stat = Stat::read(pid).with_context(|| format!("process {pid} is gone"))?;
    Ok(stat.own())
}

/// A PostgreSQL server: its first process and all that this has started, those that have ended included.
pub(crate) fn of_postgres(postmaster: u32) -> Result<Duration> {
    let first = Stat::read(postmaster).context("PostgreSQL is gone")?;
    let mut total = first.own() + first.ended_children();
    for process in fs::read_dir("/proc")? {
        let name = process?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while we look.
        let Some(stat) = Stat::read(pid).filter(|stat| stat.field(1) == u64::from(postmaster))
        else {
            continue;
        };
        // The processes are many and have one thread each: the scheduler's own count is exact to the nanosecond.
        total += scheduled(pid).unwrap_or(stat.own());
    }
    Ok(total)
}

/// The most memory that a process has had in use, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: f64 = kib.context("no VmHWM")?.parse()?;
    Ok(kib / 1024.0)
}

/// The first thread of a process, exact to the nanosecond: Redis does nearly everything on it.
pub(crate) fn of_first_thread(pid: u32) -> Result<Duration> {
    scheduled(pid).with_context(|| format!("process {pid} is gone"))
}

/// What the first thread of a process has used.
fn scheduled(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let nanos = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// `/proc/PID/stat` behind the program's name.
struct Stat(Vec<u64>);

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold anything.
        let (_, rest) = text.rsplit_once(')')?;
        Some(Self(
            rest.split_whitespace()
                .map(|field| field.parse().unwrap_or(0))
                .collect(),
        ))
    }

    /// By its place behind the name: 0 is the state, 1 the parent.
    fn field(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(0)
    }

    fn ticks(&self, places: [usize; 2]) -> Duration {
        let ticks: u64 = places.iter().map(|place| self.field(*place)).sum();
        TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    fn own(&self) -> Duration {
        self.ticks([11, 12])
    }

    fn ended_children(&self) -> Duration {
        self.ticks([13, 14])
    }
}
