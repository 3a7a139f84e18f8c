//! The clock that every component is handed, so that a test decides what time it is, and a process goes by the time that the
//! whole fleet agrees on ([`crate::db::clock`]).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};

/// A moment in UTC. Everything that Relaypost stores or shows has millisecond precision.
pub type Timestamp = DateTime<Utc>;

/// Where "now" comes from: the machine, the database, or a test.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Followed(Arc<Followed>),
    Manual(Arc<AtomicI64>),
    Asked(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

/// The time of another clock, carried on by the monotonic clock of this machine.
struct Followed {
    origin: Instant,
    /// The time of the other clock at `origin`, in milliseconds since 1970.
    at_origin: AtomicI64,
}

impl Followed {
    fn set(&self, millis: i64, at: Instant) {
        let since = millis_of(at.saturating_duration_since(self.origin));
        self.at_origin.store(millis - since, Ordering::SeqCst);
    }

    fn millis(&self) -> i64 {
        self.at_origin.load(Ordering::SeqCst) + millis_of(self.origin.elapsed())
    }
}

fn millis_of(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Followed(_) => "Followed",
            Self::Manual(_) => "Manual",
            Self::Asked(_) => "Asked",
        })
    }
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that begins with the machine's time and goes on by its monotonic clock. [`Clock::set`] gives it the time of
    /// another clock.
    pub fn followed() -> Self {
        Self(Source::Followed(Arc::new(Followed {
            origin: Instant::now(),
            at_origin: AtomicI64::new(system_millis()),
        })))
    }

    /// Gives a clock that follows another one the `time` that the other one showed at `at`; any other clock is left alone.
    pub fn set(&self, time: Timestamp, at: Instant) {
        if let Source::Followed(followed) = &self.0 {
            followed.set(time.timestamp_millis(), at);
        }
    }

    /// The machine's own clock, if this one follows another; otherwise this one.
    pub fn of_machine(&self) -> Self {
        match &self.0 {
            Source::Followed(_) => Self::system(),
            _ => self.clone(),
        }
    }

    /// A clock that stands still at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(
            start.timestamp_millis(),
        ))))
    }

    /// A clock that calls `ask` for each reading: it can jump, or fail, as a test wants.
    pub fn asking(ask: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Source::Asked(Arc::new(ask)))
    }

    /// The current time, cut to milliseconds.
    pub fn now(&self) -> Timestamp {
        let millis = match &self.0 {
            Source::System => system_millis(),
            Source::Followed(followed) => followed.millis(),
            Source::Manual(millis) => millis.load(Ordering::SeqCst),
            Source::Asked(ask) => ask().timestamp_millis(),
        };
        DateTime::from_timestamp_millis(millis).unwrap_or_default()
    }

    /// Moves a manual clock forward; any other cannot be moved and is left alone.
    pub fn advance(&self, by: TimeDelta) {
        if let Source::Manual(millis) = &self.0 {
            millis.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the machine's clock"
)]
fn system_millis() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, millis_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_follows_another_goes_on_from_the_time_it_was_given() {
        let clock = Clock::followed();
        let time = DateTime::from_timestamp_millis(5_000_000_000_000).unwrap();
        let before = Instant::now();
        clock.set(time, before);
        let shown = clock.now();
        let passed = TimeDelta::from_std(before.elapsed()).unwrap();
        assert!(time <= shown && shown <= time + passed, "{shown}");
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(DateTime::from_timestamp_millis(1_000).unwrap());
        let twin = clock.clone();
        assert_eq!(clock.now(), twin.now());
        clock.advance(TimeDelta::milliseconds(250));
        assert_eq!(twin.now().timestamp_millis(), 1_250);
    }
}
