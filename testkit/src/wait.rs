//! Waiting with a deadline.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

const POLL_EVERY: Duration = Duration::from_millis(10);

/// Runs `check` every 10 ms until it answers `Ok`, and hands that value back. At the deadline it panics with the
/// caller's position and the last `Err`, so let the error say what was seen. The only place that polls.
#[track_caller]
pub fn eventually<T, F, Fut>(deadline: Duration, mut check: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let caller = Location::caller();
    async move {
        let mut last = "the first check did not finish".to_owned();
        let polling = async {
            let mut ticks = interval(POLL_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                match check().await {
                    Ok(value) => return value,
                    Err(why) => last = why,
                }
            }
        };
        let outcome = timeout(deadline, polling).await;
        outcome.unwrap_or_else(|_| panic!("{caller}: not within {deadline:?}: {last}"))
    }
}

/// Waits until the watched value fulfils `done`; at the deadline it panics with `seen()`.
pub(crate) async fn watched<T>(
    watch: &watch::Sender<T>,
    deadline: Duration,
    done: impl FnMut(&T) -> bool,
    seen: impl FnOnce() -> String,
) {
    let mut changes = watch.subscribe();
    let outcome = timeout(deadline, changes.wait_for(done)).await.map(|_| ());
    if outcome.is_err() {
        panic!("not within {deadline:?}: {}", seen());
    }
}
