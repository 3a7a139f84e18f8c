//! The circuit breaker: one implementation for endpoints and mail providers, as a pure state machine over the row that
//! keeps it. What is sent, parked and released is for the worker; what an operator does by hand is for the API.
//!
//! The states and what leads from one to another follow Nygard, *Release It!* (2nd edition, chapter 5, "Circuit
//! Breaker"). Two things are added to the book: the time that it stays open grows while probes fail, and what it lets
//! through after it has closed is paced. The pace doubles with each second of success and is halved at each sign of
//! trouble, as TCP's congestion window is (RFC 5681), so that a backlog does not knock over what has just got up.
//!
//! Every change happens under the lock of the row ([`crate::store::circuits::lock`]), so it is exact however many workers there are.

use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    delivery::CircuitState,
    ids::TenantId,
    settings,
    store::{
        Circuit,
        circuits::{Change, History},
    },
};

pub use crate::store::circuits::{RESTLESS, create_missing, lock, restless, save, wake};

/// Requests a second that a circuit lets through when it has just closed, or was resumed.
const FIRST_PACE: i32 = 16;
/// Requests a second that are left to an endpoint which says for the first time that it is busy.
const BUSY_PACE: i32 = 64;
/// Over this the pace is nobody's bottleneck any more, and is lifted.
const FREE_PACE: i32 = 1_024;
/// How often the pace grows at most, and how often it is halved at most. What has just grown can be halved at once: among
/// many answers of one moment some are always good.
const PACE_STEP: TimeDelta = TimeDelta::seconds(1);
/// How long nothing more is released after a failure.
const TROUBLE_PAUSE: TimeDelta = TimeDelta::seconds(2);
/// How many changes of state the row remembers.
const REMEMBERED: usize = 20;

/// What an attempt says about the endpoint or the mail provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It works.
    Success,
    /// It works, and asks for less (429, 503).
    Busy,
    /// It does not work.
    Failure,
}

/// What one attempt said, and which epoch's probe it was, if it was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The circuit that it was made through.
    pub circuit: Uuid,
    /// The epoch in which it was admitted as a probe.
    pub epoch: Option<i32>,
    /// What it says.
    pub signal: Signal,
}

/// Something that operators want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The circuit has opened.
    Opened,
    /// The circuit has closed.
    Closed,
    /// Every attempt has failed for this many per cent of the time after which the endpoint is disabled.
    Disabling(i32),
    /// The endpoint is to be disabled now.
    Disable,
    /// It works again, after operators were told that it was about to be disabled.
    Recovered,
}

/// Whether a delivery may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it; as a probe of this epoch, if there is one.
    Send(Option<i32>),
    /// Hold it back.
    Park,
}

impl Circuit {
    /// A closed circuit that has seen nothing yet.
    pub fn new(id: Uuid, tenant: Option<TenantId>, now: Timestamp) -> Self {
        Self {
            id,
            tenant_id: tenant,
            state: CircuitState::Closed,
            failures: 0,
            epoch: 0,
            open_seconds: 0,
            opened_at: None,
            retry_at: None,
            probes: 0,
            successes: 0,
            failing_since: None,
            failed_at: None,
            warned: 0,
            pace: None,
            pace_at: None,
            release_at: None,
            head: None,
            settled: None,
            history: History::default(),
            updated_at: now,
        }
    }

    /// Whether a delivery may be sent now. A half-open circuit counts it as one of its probes, so this is asked under
    /// the row's lock, and only by who is going to send.
    ///
    /// A probe whose result does not arrive within `patience` is taken for lost, and others may be sent instead.
    pub fn admit(
        &mut self,
        policy: &settings::Circuit,
        patience: TimeDelta,
        now: Timestamp,
    ) -> Admission {
        let due = self.retry_at.is_some_and(|at| at <= now);
        match self.state {
            CircuitState::Closed => return Admission::Send(None),
            CircuitState::Open if due => {
                self.change(CircuitState::HalfOpen, "probe_due", now);
                self.begin_epoch();
            }
            CircuitState::HalfOpen if self.has_room(policy, due) => {}
            CircuitState::HalfOpen if due => self.begin_epoch(),
            CircuitState::Open | CircuitState::HalfOpen => return Admission::Park,
        }
        self.probes += 1;
        self.retry_at = Some(now + patience);
        Admission::Send(Some(self.epoch))
    }

    /// How many of what is held back a circuit that is not closed may be offered as probes now.
    pub fn probes_wanted(&self, policy: &settings::Circuit, now: Timestamp) -> u32 {
        let due = self.retry_at.is_some_and(|at| at <= now);
        let wanted = match self.state {
            CircuitState::HalfOpen if self.has_room(policy, due) => limit(policy) - self.probes,
            CircuitState::Open | CircuitState::HalfOpen if due => limit(policy),
            CircuitState::Closed | CircuitState::Open | CircuitState::HalfOpen => 0,
        };
        u32::try_from(wanted).unwrap_or(0)
    }

    /// Takes in what an attempt said.
    pub fn observe(
        &mut self,
        policy: &settings::Circuit,
        report: Report,
        at: Timestamp,
    ) -> Vec<Notice> {
        match (self.state, report.signal) {
            // Whatever was on its way when the circuit opened says nothing that is not known.
            (CircuitState::Open, Signal::Success) => Vec::new(),
            (CircuitState::Open, _) => self.note_failure(policy, at),
            (CircuitState::HalfOpen, _) if report.epoch != Some(self.epoch) => Vec::new(),
            (CircuitState::HalfOpen, Signal::Success) => self.probe_succeeded(policy, at),
            (CircuitState::HalfOpen, _) => {
                self.reopen(policy, at);
                self.note_failure(policy, at)
            }
            (CircuitState::Closed, Signal::Success) => self.works(at),
            (CircuitState::Closed, Signal::Busy) if self.pace.is_none_or(|pace| pace > 1) => {
                self.slow_down(BUSY_PACE, at);
                self.note_failure(policy, at)
            }
            (CircuitState::Closed, _) => self.failed(policy, at),
        }
    }

    /// Opened by hand: it stays open until somebody closes it.
    pub fn open_by_hand(&mut self, now: Timestamp) -> Vec<Notice> {
        let news = self.state == CircuitState::Closed;
        self.change(CircuitState::Open, "by_hand", now);
        self.opened_at = self.opened_at.or(Some(now));
        (self.retry_at, self.release_at) = (None, None);
        (self.pace, self.pace_at) = (None, None);
        if news {
            vec![Notice::Opened]
        } else {
            Vec::new()
        }
    }

    /// Closed by hand: what it held back is released at a pace.
    pub fn close_by_hand(&mut self, now: Timestamp) -> Vec<Notice> {
        let news = self.state != CircuitState::Closed;
        if news {
            self.change(CircuitState::Closed, "by_hand", now);
        }
        // Closed or not, it gets the benefit of the doubt: the time until it is disabled begins anew.
        self.forget();
        self.begin_release(now);
        if news {
            vec![Notice::Closed]
        } else {
            Vec::new()
        }
    }

    /// What was held back is released from now on, slowly at first.
    pub fn begin_release(&mut self, now: Timestamp) {
        self.pace = Some(self.pace.map_or(FIRST_PACE, |pace| pace.min(FIRST_PACE)));
        (self.pace_at, self.release_at) = (Some(now), Some(now));
    }

    /// Makes sure that somebody looks at it at `at`, or earlier.
    pub fn release_by(&mut self, at: Timestamp) {
        self.release_at = Some(self.release_at.map_or(at, |known| known.min(at)));
    }

    /// How many deliveries a second are released while it is closed.
    pub fn release_pace(&self) -> u32 {
        u32::try_from(self.pace.unwrap_or(FREE_PACE)).unwrap_or(1)
    }

    /// Whether this epoch has room for another probe. One whose probes have all succeeded misses none, and goes on.
    fn has_room(&self, policy: &settings::Circuit, due: bool) -> bool {
        self.probes < limit(policy) && (!due || self.successes == self.probes)
    }

    fn begin_epoch(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        (self.probes, self.successes) = (0, 0);
    }

    fn works(&mut self, at: Timestamp) -> Vec<Notice> {
        self.failures = 0;
        self.failing_since = None;
        if let Some(pace) = self.pace
            // What works while nothing is released says nothing about whether more can be.
            && !self.is_pausing(at)
            && self.pace_at.is_none_or(|since| at - since >= PACE_STEP)
        {
            let faster = pace.saturating_mul(2);
            // While something is being released the pace is kept, so that it can be halved.
            self.pace = match self.release_at {
                Some(_) => Some(faster.min(FREE_PACE)),
                None => (faster < FREE_PACE).then_some(faster),
            };
            self.pace_at = Some(at);
        }
        if std::mem::take(&mut self.warned) > 0 {
            return vec![Notice::Recovered];
        }
        Vec::new()
    }

    fn failed(&mut self, policy: &settings::Circuit, at: Timestamp) -> Vec<Notice> {
        self.failures = self.failures.saturating_add(1);
        if self.pace.is_some() {
            self.slow_down(FIRST_PACE, at);
        }
        let mut notices = Vec::new();
        if i64::from(self.failures) >= i64::from(policy.failure_threshold) {
            self.change(CircuitState::Open, "failures", at);
            self.opened_at = Some(at);
            self.stay_open(policy, 0, at);
            notices.push(Notice::Opened);
        }
        notices.extend(self.note_failure(policy, at));
        notices
    }

    /// Whether nothing is released for longer than usual.
    fn is_pausing(&self, at: Timestamp) -> bool {
        self.release_at.is_some_and(|next| next - at > PACE_STEP)
    }

    fn slow_down(&mut self, from: i32, at: Timestamp) {
        if self.pace.is_some() && self.is_pausing(at) {
            // It comes from what was under way when the trouble began.
            return;
        }
        let just_changed = self.pace_at.is_some_and(|since| at - since < PACE_STEP);
        // Growing is no trouble, so the last trouble was before that.
        let just_halved = just_changed && self.failed_at >= self.pace_at;
        if just_halved && self.pace.is_some() {
            return;
        }
        self.pace = Some(self.pace.map_or(from, |pace| (pace / 2).max(1)));
        self.pace_at = Some(at);
        if let Some(release) = self.release_at {
            self.release_at = Some(release.max(at + TROUBLE_PAUSE));
            // It has to work for a moment at this pace before the pace grows.
            self.pace_at = self.release_at;
        }
    }

    fn probe_succeeded(&mut self, policy: &settings::Circuit, at: Timestamp) -> Vec<Notice> {
        self.successes += 1;
        if self.successes < limit(policy) {
            // There is room for the next probe, should it wait.
            self.release_by(at);
            return Vec::new();
        }
        self.change(CircuitState::Closed, "probes_succeeded", at);
        self.forget();
        self.begin_release(at);
        let mut notices = vec![Notice::Closed];
        notices.extend(self.works(at));
        notices
    }

    /// Forgets why it was open.
    fn forget(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.open_seconds = 0;
        (self.opened_at, self.retry_at) = (None, None);
        (self.probes, self.successes) = (0, 0);
    }

    fn reopen(&mut self, policy: &settings::Circuit, at: Timestamp) {
        self.change(CircuitState::Open, "probe_failed", at);
        self.failures = self.failures.saturating_add(1);
        self.stay_open(policy, self.open_seconds, at);
    }

    /// Open for twice as long as before, within limits.
    fn stay_open(&mut self, policy: &settings::Circuit, before: i32, at: Timestamp) {
        let seconds =
            |duration: std::time::Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
        let longest = seconds(policy.open_at_most).max(seconds(policy.open));
        self.open_seconds = before
            .saturating_mul(2)
            .clamp(seconds(policy.open), longest);
        let retry = at + TimeDelta::seconds(self.open_seconds.into());
        (self.retry_at, self.release_at) = (Some(retry), Some(retry));
        (self.pace, self.pace_at) = (None, None);
    }

    /// Keeps count of how long it has been failing. A long time without any attempt begins anew: two failures a week
    /// apart are not a week of failures.
    fn note_failure(&mut self, policy: &settings::Circuit, at: Timestamp) -> Vec<Notice> {
        let limit = TimeDelta::from_std(policy.disable_after).unwrap_or(TimeDelta::MAX);
        if self.failed_at.is_some_and(|last| at - last > limit / 2) {
            self.failing_since = None;
        }
        if self.failing_since.is_none() {
            // What was told of an earlier streak must not keep this one quiet.
            self.warned = 0;
        }
        let since = *self.failing_since.get_or_insert(at);
        self.failed_at = Some(at);
        let failing = at - since;
        for (percent, reached) in [
            (100, failing >= limit),
            (90, failing >= limit * 9 / 10),
            (50, failing >= limit / 2),
        ] {
            if !reached || self.warned >= percent {
                continue;
            }
            self.warned = percent;
            return vec![match percent {
                100 => Notice::Disable,
                percent => Notice::Disabling(percent),
            }];
        }
        Vec::new()
    }

    fn change(&mut self, state: CircuitState, why: &str, at: Timestamp) {
        self.state = state;
        let history = &mut self.history.0;
        if history.len() == REMEMBERED {
            history.remove(0);
        }
        history.push(Change {
            at,
            state: state.as_str().to_owned(),
            why: why.to_owned(),
        });
    }
}

fn limit(policy: &settings::Circuit) -> i32 {
    i32::try_from(policy.probes).unwrap_or(i32::MAX)
}
