//! How many deliveries a job may release, and when the next ones. The allowance is counted from a fixed moment and never
//! from the step before, so that nothing is lost in rounding and the pace cannot drift.

use chrono::TimeDelta;
use relaypost_shared::{clock::Timestamp, store::Replay};

/// What was not released in time is made up for, but no more than that of so long: after a longer pause of all workers
/// the receiver is not flooded.
const MADE_UP_FOR: TimeDelta = TimeDelta::seconds(1);
/// How many steps a second there are at most.
const STEPS_PER_S: i64 = 10;
const MILLIS: i64 = 1_000;

/// How many the job may release now. Without a pace: any number.
pub(super) fn allow(job: &mut Replay, now: Timestamp) -> u64 {
    let Some(rate) = job.rate_per_s.map(i64::from) else {
        return u64::MAX;
    };
    let elapsed = (now - job.paced_from).num_milliseconds().max(0);
    let mut allowed = elapsed.saturating_mul(rate) / MILLIS - used(job);
    if allowed > rate {
        job.paced_from = now - MADE_UP_FOR;
        job.paced_count = job.released;
        allowed = rate;
    }
    u64::try_from(allowed).unwrap_or(0)
}

/// When a job at this pace may release the next ones: a tenth of a second's worth, or one.
pub(super) fn next(job: &Replay, rate: i32) -> Timestamp {
    let rate = i64::from(rate).max(1);
    let next = used(job) + (rate / STEPS_PER_S).max(1);
    let millis = (next * MILLIS + rate - 1) / rate;
    job.paced_from + TimeDelta::milliseconds(millis)
}

fn used(job: &Replay) -> i64 {
    i64::from(job.released) - i64::from(job.paced_count)
}
