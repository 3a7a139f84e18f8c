//! What the fields of an endpoint can be, apart from its URL.

use std::ops::RangeInclusive;

use crate::http::Checks;

/// How many event types or channels an endpoint names at most.
pub(super) const MAX_NAMES: usize = 500;
const MAX_RETRIES: usize = 50;
const MAX_WAIT_S: u32 = 7 * 86_400;
const TIMEOUT_MS: RangeInclusive<i32> = 100..=300_000;
const LIMIT: RangeInclusive<i32> = 1..=10_000;

/// One line.
pub(super) fn check_description(checks: &mut Checks, description: Option<&str>) {
    if let Some(description) = description {
        checks.line("description", description, 0..=1000);
    }
}

/// The timeout in milliseconds, and the waits before each retry in seconds.
pub(super) fn check_timing(checks: &mut Checks, timeout_ms: Option<i32>, schedule: Option<&[u32]>) {
    let timeout_fits = timeout_ms.is_none_or(|ms| TIMEOUT_MS.contains(&ms));
    checks.require(timeout_fits, "timeout_ms", || {
        format!("expected {} to {}", TIMEOUT_MS.start(), TIMEOUT_MS.end())
    });
    let schedule = schedule.unwrap_or_default();
    checks.require(schedule.len() <= MAX_RETRIES, "retry_schedule", || {
        format!("expected at most {MAX_RETRIES} waits")
    });
    let waits_fit = schedule.iter().all(|seconds| *seconds <= MAX_WAIT_S);
    checks.require(waits_fit, "retry_schedule", || {
        format!("expected waits of 0 to {MAX_WAIT_S} seconds")
    });
}

/// How many requests: a second, or at a time.
pub(super) fn check_limit(checks: &mut Checks, path: &str, limit: Option<i32>) {
    let fits = limit.is_none_or(|limit| LIMIT.contains(&limit));
    checks.require(fits, path, || {
        format!("expected {} to {}", LIMIT.start(), LIMIT.end())
    });
}
