//! How often something may happen: the generic cell rate algorithm (ITU-T I.371, annex A;
//! <https://brandur.org/rate-limiting>).

use std::time::Duration;

use tokio::time::Instant;

/// The theoretical arrival time of the next request: how far it is ahead of the clock says how much of the burst is used
/// up. A burst is what may go in 100 ms, and one request at least.
#[derive(Debug, Default)]
pub(super) struct Rate(Option<Instant>);

fn step(rate: u32) -> Duration {
    Duration::from_secs(1) / rate.max(1)
}

fn burst(rate: u32) -> u32 {
    (rate / 10).max(1)
}

impl Rate {
    fn arrival(&self, rate: u32, now: Instant) -> Instant {
        let latest = now + step(rate) * burst(rate);
        self.0.map_or(now, |at| at.clamp(now, latest))
    }

    /// How many requests may go now.
    pub(super) fn allowed(&self, rate: u32, now: Instant) -> usize {
        let ahead = self.arrival(rate, now).duration_since(now);
        let free = (step(rate) * burst(rate)).saturating_sub(ahead);
        usize::try_from(free.as_nanos() / step(rate).as_nanos().max(1)).unwrap_or(usize::MAX)
    }

    /// `count` requests went.
    pub(super) fn took(&mut self, rate: u32, count: usize, now: Instant) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.0 = Some(self.arrival(rate, now) + step(rate).saturating_mul(count));
    }

    /// When half of the burst may go: with a wake-up for each request the workers would do little else.
    pub(super) fn due(&self, rate: u32, now: Instant) -> Instant {
        let burst = burst(rate);
        let early = step(rate) * (burst - (burst / 2).max(1));
        self.arrival(rate, now)
            .checked_sub(early)
            .map_or(now, |due| due.max(now))
    }
}
