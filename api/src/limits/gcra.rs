//! How often something may happen: the generic cell rate algorithm (ITU-T I.371, annex A;
//! <https://brandur.org/rate-limiting>).
//!
//! A limit is kept as one number, the theoretical arrival time of the next request. Each request moves it on by a step,
//! and it may be ahead of the clock by as many steps as the burst has requests. `claim.lua` is the same in Redis.

use relaypost_shared::settings::Quota;

/// Microseconds in a second: the times of this module are whole microseconds, which Lua's numbers hold exactly.
pub(super) const SECOND: u64 = 1_000_000;

/// The pace that a quota allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// The time between two requests, rounded up.
    pub(super) step: u64,
    /// How many requests may come at once.
    pub(super) burst: u32,
}

/// Where a limit stands after a request asked for some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// How far the arrival time is ahead of the clock: how long until the whole burst is there again.
    pub(super) ahead: u64,
    /// How long the request has to wait; 0: this limit lets it through.
    pub(super) wait: u64,
}

/// What a request would make of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reckoned {
    /// The arrival time if the request goes through.
    pub(super) taken: u64,
    /// The arrival time if it does not.
    pub(super) kept: u64,
    /// How long it has to wait for this limit.
    pub(super) wait: u64,
}

impl Pace {
    /// The pace of a quota.
    pub(super) fn of(quota: Quota) -> Self {
        let per = u64::try_from(quota.per.as_micros()).unwrap_or(u64::MAX);
        Self {
            step: per.div_ceil(quota.count.max(1).into()).max(1),
            burst: quota.burst.max(1),
        }
    }

    /// How far ahead of the clock the arrival time may be.
    fn full(&self) -> u64 {
        self.step.saturating_mul(self.burst.into())
    }

    /// The time in which the whole burst comes back, in seconds.
    pub(super) fn window(&self) -> u64 {
        self.full().div_ceil(SECOND)
    }

    /// How many requests may come now.
    pub(super) fn remaining(&self, level: Level) -> u64 {
        self.full().saturating_sub(level.ahead) / self.step
    }

    /// What a request of this cost, of which `paid` were taken before, makes of a limit with this arrival time. An arrival
    /// time too far ahead comes from a clock that was set back or from a larger burst.
    pub(super) fn reckon(&self, arrival: u64, now: u64, cost: u32, paid: u32) -> Reckoned {
        let steps = |count: u32| self.step.saturating_mul(count.into());
        let kept = arrival
            .saturating_sub(steps(paid))
            .clamp(now, now + self.full());
        let taken = kept + steps(cost);
        Reckoned {
            taken,
            kept,
            wait: taken.saturating_sub(now + self.full()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn pace(count: u32, seconds: u64, burst: u32) -> Pace {
        Pace::of(Quota {
            count,
            per: Duration::from_secs(seconds),
            burst,
        })
    }

    proptest! {
        #[test]
        fn no_more_than_the_burst_and_the_pace_go_through_in_any_time(
            count in 1_u32..2_000, seconds in 1_u64..61, burst in 1_u32..50,
            gaps in proptest::collection::vec(0_u64..3_000_000, 1..200),
        ) {
            let pace = pace(count, seconds, burst);
            let (mut arrival, mut now, mut passed) = (0, 1_000_000_000, 0);
            let start = now;
            for gap in gaps {
                now += gap;
                let reckoned = pace.reckon(arrival, now, 1, 0);
                if reckoned.wait == 0 {
                    arrival = reckoned.taken;
                    passed += 1;
                } else {
                    // Refused, but not a microsecond after the time that it was told.
                    let later = now + reckoned.wait;
                    prop_assert!(pace.reckon(reckoned.kept, later, 1, 0).wait == 0);
                    prop_assert!(pace.reckon(reckoned.kept, later - 1, 1, 0).wait > 0);
                }
                prop_assert!(passed <= u64::from(burst) + (now - start) / pace.step);
            }
        }

        #[test]
        fn what_was_paid_counts_once(burst in 2_u32..100, cost in 1_u32..100, gap in 0_u64..1_000_000) {
            let (pace, cost) = (pace(10, 1, burst), cost.min(burst));
            let first = pace.reckon(0, SECOND, 1, 0).taken;
            let whole = pace.reckon(first, SECOND + gap, cost, 1);
            prop_assert_eq!(whole, pace.reckon(0, SECOND + gap, cost, 0));
        }
    }
}
