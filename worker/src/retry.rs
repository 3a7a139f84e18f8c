//! When to try again: the fixed schedule of deliveries, and the exponential curve for everything that has none.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use chrono::{DateTime, TimeDelta};
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

/// How far a receiver may put the next attempt off.
const PUT_OFF_AT_MOST: TimeDelta = TimeDelta::hours(24);

/// The time that a `Retry-After` header names: seconds from `now`, or an HTTP date (RFC 9110, section 10.2.3).
pub fn retry_after(header: &str, now: Timestamp) -> Option<Timestamp> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u32>() {
        return now.checked_add_signed(TimeDelta::seconds(seconds.into()));
    }
    httpdate::parse_http_date(header).ok().map(DateTime::from)
}

/// The next attempt of the schedule, put off to what the receiver asked for, within reason. It is never brought forward,
/// and whether there is a next attempt is for the schedule to say.
pub fn put_off(next: Timestamp, asked: Option<Timestamp>, now: Timestamp) -> Timestamp {
    asked.map_or(next, |asked| next.max(asked.min(now + PUT_OFF_AT_MOST)))
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

    proptest! {
        #[test]
        fn a_receiver_can_only_delay_the_next_attempt_and_only_so_far(
            next in 0_i64..1_000_000_000,
            asked in proptest::option::of(-1_000_000_000_i64..1_000_000_000_000),
        ) {
            let now = Timestamp::default();
            let at = |millis| now + TimeDelta::milliseconds(millis);
            let result = put_off(at(next), asked.map(at), now);
            prop_assert!(result >= at(next));
            prop_assert!(result <= at(next).max(now + PUT_OFF_AT_MOST));
            if asked.is_none_or(|asked| asked <= next) {
                prop_assert_eq!(result, at(next));
            }
        }

        #[test]
        fn no_header_is_too_odd_to_be_read(header in ".*") {
            let _ = retry_after(&header, Timestamp::default());
        }
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        let now = DateTime::from_timestamp(784_111_777, 0).unwrap();
        assert_eq!(retry_after("120", now), Some(now + TimeDelta::seconds(120)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now),
            Some(now + TimeDelta::seconds(60))
        );
        for nonsense in ["", "-1", "soon", "1.5", "99999999999999"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
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
