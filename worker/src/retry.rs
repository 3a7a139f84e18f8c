//! When to try again: the fixed schedule of deliveries, and the exponential curve for everything that has none.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use chrono::TimeDelta;
use relaypost_shared::clock::Timestamp;

/// How far a wait is varied, up and down, so that deliveries that failed together do not come back together.
const JITTER: f64 = 0.2;

/// When the attempt after number `failed` is due, or `None` when the schedule is at its end.
///
/// `schedule` has the seconds before the second attempt, the third, and so on. `chance` is drawn evenly from `0..1`.
pub fn next_attempt(
    schedule: &[u32],
    failed: u32,
    now: Timestamp,
    chance: f64,
) -> Option<Timestamp> {
    let index = usize::try_from(failed).ok()?.checked_sub(1)?;
    let seconds = f64::from(*schedule.get(index)?);
    let factor = 1.0 - JITTER + 2.0 * JITTER * chance;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a u32 of seconds fits in an i64 of milliseconds"
    )]
    let millis = (seconds * factor * 1000.0) as i64;
    now.checked_add_signed(TimeDelta::milliseconds(millis))
}

/// Waits between tries of something that must work in the end, such as recording a result while the database
/// restarts: 50 ms, growing to 2 s, without an end. This is the only place that knows the `backoff` crate.
pub fn infrastructure() -> impl Iterator<Item = Duration> {
    let mut curve: ExponentialBackoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(50))
        .with_max_interval(Duration::from_secs(2))
        .with_max_elapsed_time(None)
        .build();
    std::iter::from_fn(move || backoff::backoff::Backoff::next_backoff(&mut curve))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_schedule_has_exactly_as_many_retries_as_it_lists_and_each_wait_is_within_a_fifth(
            schedule in proptest::collection::vec(0_u32..100_000, 0..20),
            failed in 1_u32..30,
            chance in 0.0..1.0_f64,
        ) {
            let now = Timestamp::default();
            let next = next_attempt(&schedule, failed, now, chance);
            prop_assert_eq!(next.is_some(), failed as usize <= schedule.len());
            if let Some(at) = next {
                let waited = (at - now).num_milliseconds() as f64;
                let listed = f64::from(schedule[failed as usize - 1]) * 1000.0;
                prop_assert!(waited >= listed * 0.8 - 1.0 && waited <= listed * 1.2 + 1.0);
            }
        }
    }

    #[test]
    fn the_curve_grows_to_its_limit_and_never_ends() {
        let waits: Vec<Duration> = infrastructure().take(50).collect();
        assert_eq!(waits.len(), 50);
        assert!(waits[0] < Duration::from_millis(100));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(3)));
        assert!(waits[40] > Duration::from_millis(900));
    }
}
