//! The loops of a process: what it does again and again. Each reports when it turns, so that liveness can tell a loop that
//! hangs from one that waits.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

/// All loops of a process. Clones share them.
#[derive(Clone, Debug)]
pub struct Loops {
    began: Instant,
    entries: Arc<Mutex<Vec<Arc<Entry>>>>,
}

/// One loop's way to report. A report costs an atomic store. Clones report for the same loop.
#[derive(Clone)]
pub struct Loop {
    began: Instant,
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    longest: Duration,
    /// The last report: milliseconds since the process began, and the [`Phase`] in the two lowest bits.
    reported: AtomicU64,
    /// The last success, in milliseconds since the process began, plus one. 0: none yet.
    succeeded: AtomicU64,
    restarts: AtomicU64,
    panics: AtomicU64,
}

/// What a loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It waits for work, for as long as there is none.
    Idle,
    /// It turns.
    Turning,
    /// Its last turn failed because the database or Redis did, and it tries again.
    WaitingForDependency,
    /// It has ended, by a panic for example, and starts again after a pause.
    Restarting,
}

impl Phase {
    const fn bits(self) -> u64 {
        match self {
            Self::Idle => 0,
            Self::Turning => 1,
            Self::WaitingForDependency => 2,
            Self::Restarting => 3,
        }
    }

    const fn of_bits(reported: u64) -> Self {
        match reported & 3 {
            0 => Self::Idle,
            1 => Self::Turning,
            2 => Self::WaitingForDependency,
            _ => Self::Restarting,
        }
    }
}

/// How a loop is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoopState {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub phase: Phase,
    /// Milliseconds since its last report.
    pub silent_ms: u64,
    /// Milliseconds since its last success. Absent: none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub succeeded_ms_ago: Option<u64>,
    /// Whether it has been silent for longer than it may be.
    pub stuck: bool,
    /// How often it has ended and was started again. Absent: never.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u64,
    /// How many panics were caught in it, or in the work that it gave out. Absent: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub panics: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Default for Loops {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            entries: Arc::default(),
        }
    }
}

impl Loops {
    /// Adds a loop, which counts as idle until its first report. It is stuck when it is not idle and reports nothing for
    /// `longest`.
    pub fn add(&self, name: impl Into<String>, longest: Duration) -> Loop {
        let entry = Arc::new(Entry {
            name: name.into(),
            longest,
            reported: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        });
        self.lock().push(entry.clone());
        Loop {
            began: self.began,
            entry,
        }
    }

    /// How each loop is doing.
    pub fn states(&self) -> Vec<LoopState> {
        let now = millis(self.began.elapsed());
        self.lock().iter().map(|entry| entry.state(now)).collect()
    }

    /// The loops that have ended and have not started again yet.
    pub fn restarting(&self) -> Vec<LoopState> {
        let mut states = self.states();
        states.retain(|state| state.phase == Phase::Restarting);
        states
    }

    /// The loops that have been silent for too long.
    pub fn stuck(&self) -> Vec<LoopState> {
        let mut states = self.states();
        states.retain(|state| state.stuck);
        states
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn state(&self, now: u64) -> LoopState {
        let reported = self.reported.load(Relaxed);
        let phase = Phase::of_bits(reported);
        let silent_ms = now.saturating_sub(reported >> 2);
        let succeeded = self.succeeded.load(Relaxed).checked_sub(1);
        LoopState {
            name: self.name.clone(),
            phase,
            silent_ms,
            succeeded_ms_ago: succeeded.map(|at| now.saturating_sub(at)),
            stuck: phase != Phase::Idle && silent_ms > millis(self.longest),
            restarts: self.restarts.load(Relaxed),
            panics: self.panics.load(Relaxed),
        }
    }
}

impl Loop {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// How long it has reported nothing although it has work; nothing while it waits for work.
    pub fn silent_for(&self) -> Option<Duration> {
        let state = self.entry.state(self.now());
        (state.phase != Phase::Idle).then(|| Duration::from_millis(state.silent_ms))
    }

    /// It turns.
    pub fn turns(&self) {
        self.report(Phase::Turning);
    }

    /// A turn went well.
    pub fn succeeded(&self) {
        self.report(Phase::Turning);
        self.entry.succeeded.store(self.now() + 1, Relaxed);
    }

    /// A turn failed because the database or Redis did; another one follows.
    pub fn waits_for_dependency(&self) {
        self.report(Phase::WaitingForDependency);
    }

    /// It has ended and starts again: it counts as restarting until its next report.
    pub fn restarts(&self) {
        self.entry.restarts.fetch_add(1, Relaxed);
        self.report(Phase::Restarting);
    }

    /// A panic was caught in it, or in the work that it gave out.
    pub fn panicked(&self) {
        self.entry.panics.fetch_add(1, Relaxed);
    }

    /// Whether it has ended and has not started again yet.
    pub fn is_restarting(&self) -> bool {
        Phase::of_bits(self.entry.reported.load(Relaxed)) == Phase::Restarting
    }

    /// It waits for work.
    pub fn idles(&self) {
        self.report(Phase::Idle);
    }

    /// Turns until `work` ends or is dropped, then waits for more work.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        self.turns();
        let _until = Until(self);
        work.await
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    fn report(&self, phase: Phase) {
        let reported = self.now() << 2 | phase.bits();
        self.entry.reported.store(reported, Relaxed);
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loop").field(&self.entry.name).finish()
    }
}

/// Reports the end of a piece of work, a panic too.
struct Until<'a>(&'a Loop);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.idles();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX >> 2)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);

    fn stuck(loops: &Loops) -> Vec<String> {
        loops.stuck().into_iter().map(|one| one.name).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_stuck_once_it_is_silent_for_too_long_and_not_when_it_turns_again() {
        let loops = Loops::default();
        let one = loops.add("dispatch", LONGEST);
        one.turns();
        advance(LONGEST).await;
        assert_eq!(stuck(&loops), [""; 0]);
        advance(Duration::from_millis(1)).await;
        assert_eq!(stuck(&loops), ["dispatch"]);
        one.waits_for_dependency();
        assert_eq!(stuck(&loops), [""; 0]);
        advance(LONGEST * 2).await;
        assert_eq!(stuck(&loops), ["dispatch"]);
        one.succeeded();
        assert_eq!(loops.states()[0].succeeded_ms_ago, Some(0));
        assert_eq!(stuck(&loops), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ended_is_restarting_until_it_turns_and_is_stuck_if_it_never_does() {
        let loops = Loops::default();
        let one = loops.add("dispatch", LONGEST);
        one.panicked();
        one.restarts();
        let [state] = &loops.restarting()[..] else {
            panic!("one loop is restarting");
        };
        assert_eq!(
            (state.name.as_str(), state.restarts, state.panics),
            ("dispatch", 1, 1)
        );
        advance(LONGEST + Duration::from_millis(1)).await;
        assert_eq!(stuck(&loops), ["dispatch"]);
        one.turns();
        assert!(!one.is_restarting());
        assert!(loops.restarting().is_empty());
        assert_eq!(loops.states()[0].restarts, 1, "the count stays");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_without_work_is_never_stuck_and_one_that_hangs_in_its_work_is() {
        let loops = Loops::default();
        let one = loops.add("store messages", LONGEST);
        advance(LONGEST * 10).await;
        assert_eq!(stuck(&loops), [""; 0]);
        one.during(async {}).await;
        advance(LONGEST * 10).await;
        assert_eq!(stuck(&loops), [""; 0]);
        let hangs = one.during(std::future::pending::<()>());
        let cut = tokio::time::timeout(LONGEST * 2, async {
            let watch = async {
                tokio::time::sleep(LONGEST + Duration::from_secs(1)).await;
                assert_eq!(stuck(&loops), ["store messages"]);
            };
            tokio::join!(hangs, watch)
        });
        assert!(cut.await.is_err());
        assert_eq!(stuck(&loops), [""; 0], "what was cut off is over");
    }
}
