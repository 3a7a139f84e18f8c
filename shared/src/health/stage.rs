//! A stage that work passes through, such as storing what was accepted. It is stuck while work stands in it and none of it
//! gets through.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long nothing may get through.
const PATIENCE: Duration = Duration::from_secs(4);
/// After a failure the same work comes again within this time. If it does not, nothing is known.
const AGAIN: Duration = Duration::from_secs(5);
/// The words of the check's own write for the same fault.
pub(super) const DISK_FULL: &str = "disk full";

/// One stage. Clones share it.
#[derive(Clone, Debug)]
pub struct Stage {
    name: String,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// How much stands in the stage.
    inside: usize,
    /// Since when nothing has got through that should have.
    since: Option<Instant>,
    /// When something last left it without getting through.
    failed: Option<Instant>,
    /// Why that was, as far as it is known. It holds until something gets through.
    cause: Option<&'static str>,
}

/// One piece of work in a stage. Dropped without [`Passage::through`], it did not get through.
#[derive(Debug)]
#[must_use]
pub struct Passage {
    state: Arc<Mutex<State>>,
    done: bool,
}

impl Stage {
    /// A stage. The name says what is done in it: `store messages`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: Arc::default(),
        }
    }

    /// What is done in it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A piece of work comes in.
    pub fn enter(&self) -> Passage {
        let mut state = lock(&self.state);
        state.inside += 1;
        let stale = state.inside == 1 && !state.failed_lately();
        if stale || state.since.is_none() {
            state.since = Some(Instant::now());
        }
        if stale {
            state.cause = None;
        }
        Passage {
            state: self.state.clone(),
            done: false,
        }
    }

    /// Why it is stuck, if it is: the cause where it is known.
    pub fn stuck(&self) -> Option<String> {
        let state = lock(&self.state);
        let since = state.since?.elapsed();
        let at_work = state.inside > 0 || state.failed_lately();
        (at_work && since > PATIENCE).then(|| match state.cause {
            Some(cause) => cause.to_owned(),
            None => format!(
                "{}: nothing got through in {} s",
                self.name,
                since.as_secs()
            ),
        })
    }
}

impl State {
    fn failed_lately(&self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() <= AGAIN)
    }
}

impl Passage {
    /// It got through.
    pub fn through(mut self) {
        self.done = true;
    }

    /// It did not get through because the disk of the database is full.
    pub fn found_disk_full(self) {
        lock(&self.state).cause = Some(DISK_FULL);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.inside -= 1;
        if self.done {
            (state.failed, state.cause) = (None, None);
            state.since = (state.inside > 0).then(Instant::now);
        } else {
            state.failed = Some(Instant::now());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stage_is_stuck_while_nothing_gets_through_and_never_when_it_is_empty() {
        let stage = Stage::new("record results");
        advance(PATIENCE * 10).await;
        assert_eq!(stage.stuck(), None);
        let (first, second) = (stage.enter(), stage.enter());
        advance(PATIENCE).await;
        assert_eq!(stage.stuck(), None);
        first.through();
        advance(PATIENCE).await;
        assert_eq!(stage.stuck(), None, "something got through meanwhile");
        advance(Duration::from_secs(1)).await;
        let why = stage.stuck().unwrap();
        assert!(
            why.starts_with("record results: nothing got through in 5 s"),
            "{why}"
        );
        second.through();
        assert_eq!(stage.stuck(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn quick_failures_again_and_again_count_as_stuck_until_they_stop_or_one_gets_through() {
        let stage = Stage::new("load");
        for _ in 0..10 {
            drop(stage.enter());
            advance(Duration::from_secs(1)).await;
        }
        assert!(stage.stuck().is_some());
        advance(AGAIN).await;
        assert_eq!(stage.stuck(), None, "nothing comes any more");
        let late = stage.enter();
        assert_eq!(stage.stuck(), None, "what failed long ago does not count");
        late.through();
        for _ in 0..10 {
            drop(stage.enter());
            advance(Duration::from_secs(1)).await;
        }
        stage.enter().through();
        assert_eq!(stage.stuck(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_stays_the_reason_until_something_gets_through() {
        let stage = Stage::new("store messages");
        for _ in 0..5 {
            stage.enter().found_disk_full();
            advance(Duration::from_secs(1)).await;
        }
        drop(stage.enter());
        assert_eq!(stage.stuck().unwrap(), "disk full");
        stage.enter().through();
        for _ in 0..6 {
            drop(stage.enter());
            advance(Duration::from_secs(1)).await;
        }
        assert!(stage.stuck().unwrap().starts_with("store messages: "));
    }
}
