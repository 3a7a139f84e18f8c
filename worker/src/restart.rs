//! Starts again what has ended: one helper for every loop of the worker. The background loops run in [`keep_running`]; the
//! lanes, which apalis supervises, take only their pauses from [`Restarts`].

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use relaypost_shared::health::Loop;
use tokio::time::Instant;

use crate::{dispatch::StepError, retry};

/// After this time without a failure the next one counts as the first.
const STEADY: Duration = Duration::from_secs(5);
/// The pause when the curve has none, which does not happen.
const PAUSE: Duration = Duration::from_secs(2);

/// The pauses of one loop between a failure and its next start: 50 ms, growing to 2 s. Health shows meanwhile that the loop
/// does not run.
pub(crate) struct Restarts {
    turn: Loop,
    /// What is left of the curve since the last success.
    waits: Option<Box<dyn Iterator<Item = Duration> + Send>>,
    began: Instant,
}

impl Restarts {
    /// For the loop that reports to `turn`.
    pub(crate) fn new(turn: Loop) -> Self {
        Self {
            turn,
            waits: None,
            began: Instant::now(),
        }
    }

    fn begins(&mut self) {
        self.began = Instant::now();
        self.turn.turns();
    }

    fn succeeded(&mut self) {
        self.turn.succeeded();
        self.waits = None;
    }

    /// A step failed because the database or the queue did. Returns the pause before the next one.
    fn failed(&mut self) -> Duration {
        self.turn.waits_for_dependency();
        self.next()
    }

    /// The loop has ended. Returns the pause before its next start.
    pub(crate) fn ended(&mut self) -> Duration {
        self.turn.restarts();
        self.next()
    }

    fn next(&mut self) -> Duration {
        if self.began.elapsed() > STEADY {
            self.waits = None;
        }
        let curve = || Box::new(retry::infrastructure()) as Box<_>;
        let wait = self.waits.get_or_insert_with(curve).next().unwrap_or(PAUSE);
        // The time in which it rests is no time in which it worked.
        self.began = Instant::now() + wait;
        wait
    }
}

/// Makes a step again and again: at once while it says that there is more to do, after `rest` when there is not, and on a
/// growing curve while it fails. A panic in a step is caught, logged and counted, and the next step follows on the same
/// curve. Never returns.
pub(crate) async fn keep_running<F>(turn: Loop, rest: Duration, mut step: impl FnMut() -> F)
where
    F: Future<Output = Result<bool, StepError>>,
{
    let task = turn.name().to_owned();
    let mut restarts = Restarts::new(turn.clone());
    loop {
        restarts.begins();
        let stepped = AssertUnwindSafe(async { step().await }).catch_unwind();
        let wait = match stepped.await {
            Ok(Ok(more)) => {
                restarts.succeeded();
                if more { Duration::ZERO } else { rest }
            }
            Ok(Err(error)) => {
                let wait = restarts.failed();
                tracing::warn!(%task, %error, ?wait, "background task failed; retrying");
                wait
            }
            Err(panic) => {
                turn.panicked();
                let (wait, panic) = (restarts.ended(), said(&*panic));
                tracing::error!(%task, panic, ?wait, "background task panicked; starting again");
                wait
            }
        };
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
    }
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use relaypost_shared::health::Loops;
    use sea_orm::DbErr;

    use super::*;

    /// Fails, panics, ends well, and so on.
    async fn unreliable(count: &AtomicU32) -> Result<bool, StepError> {
        match count.fetch_add(1, Relaxed) % 3 {
            0 => Err(DbErr::Custom("injected".into()).into()),
            1 => panic!("injected"),
            _ => Ok(true),
        }
    }

    #[tokio::test]
    async fn a_loop_goes_on_after_failures_and_panics_and_counts_the_panics() {
        let (loops, count) = (Loops::default(), AtomicU32::new(0));
        let turn = loops.add("unreliable", Duration::from_secs(60));
        let enough = async {
            while count.load(Relaxed) < 9 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = keep_running(turn, Duration::ZERO, || unreliable(&count)) => {}
            () = enough => {}
        }
        let [state] = &loops.states()[..] else {
            panic!("one loop");
        };
        assert_eq!((state.panics, state.restarts), (3, 3));
    }

    #[test]
    fn pauses_grow_from_end_to_end() {
        let loops = Loops::default();
        let mut restarts = Restarts::new(loops.add("lane", Duration::from_secs(60)));
        let pauses: Vec<Duration> = (0..30).map(|_| restarts.ended()).collect();
        assert!(pauses[0] < Duration::from_millis(100), "{pauses:?}");
        assert!(pauses[29] > Duration::from_millis(900), "{pauses:?}");
        assert_eq!(loops.restarting().len(), 1);
    }
}
