//! The circuit breaker as a pure machine, driven through arbitrary histories beside a model that knows only the rules.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use relaypost_shared::{
    circuit::{Admission, Notice, Report, Signal},
    clock::Timestamp,
    delivery::CircuitState,
    settings,
    store::fixtures::circuit::Model,
};
use uuid::Uuid;

const PATIENCE: TimeDelta = TimeDelta::seconds(75);

#[derive(Clone, Copy, Debug)]
enum Op {
    Admit,
    /// An attempt ended: a probe of the newest epoch, of an earlier one, or no probe.
    Observe(Signal, Origin),
    Pass(TimeDelta),
    Open,
    Close,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    Probe,
    Stale,
    NoProbe,
}

fn signal() -> impl Strategy<Value = Signal> {
    prop_oneof![
        3 => Just(Signal::Success),
        2 => Just(Signal::Busy),
        4 => Just(Signal::Failure),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(Origin::Probe),
        Just(Origin::Stale),
        Just(Origin::NoProbe)
    ]
}

fn time() -> impl Strategy<Value = TimeDelta> {
    prop_oneof![
        (0..1_500_i64).prop_map(TimeDelta::milliseconds),
        (1..100_i64).prop_map(TimeDelta::seconds),
        (1..2_000_i64).prop_map(TimeDelta::minutes),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Admit),
        9 => (signal(), origin()).prop_map(|(signal, origin)| Op::Observe(signal, origin)),
        6 => time().prop_map(Op::Pass),
        1 => Just(Op::Open),
        1 => Just(Op::Close),
    ]
}

fn policy() -> impl Strategy<Value = settings::Circuit> {
    (1..6_u32, 1..60_u64, 1..600_u64, 1..5_u32, 1..72_u64).prop_map(
        |(failure_threshold, open, open_at_most, probes, hours)| settings::Circuit {
            failure_threshold,
            open: Duration::from_secs(open),
            open_at_most: Duration::from_secs(open_at_most),
            probes,
            disable_after: Duration::from_secs(hours * 3600),
        },
    )
}

/// What the rules say, kept apart from what the circuit says.
struct Rules {
    policy: settings::Circuit,
    circuit: Model,
    now: Timestamp,
    by_hand: bool,
    told_open: bool,
    admitted: BTreeMap<i32, u32>,
    succeeded: BTreeMap<i32, u32>,
    admitted_at: Option<Timestamp>,
    in_a_row: u32,
    streak: Option<Timestamp>,
    failed_at: Option<Timestamp>,
    warned: i32,
    slowed_at: Option<Timestamp>,
}

impl Rules {
    fn new(policy: settings::Circuit) -> Self {
        let now = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        Self {
            policy,
            circuit: Model::new(Uuid::nil(), None, now),
            now,
            by_hand: false,
            told_open: false,
            admitted: BTreeMap::new(),
            succeeded: BTreeMap::new(),
            admitted_at: None,
            in_a_row: 0,
            streak: None,
            failed_at: None,
            warned: 0,
            slowed_at: None,
        }
    }

    fn play(&mut self, op: Op) {
        let before = self.circuit.clone();
        let notices = match op {
            Op::Admit => {
                self.admit();
                Vec::new()
            }
            Op::Observe(signal, origin) => self.observe(signal, origin),
            Op::Pass(time) => {
                self.now += time;
                Vec::new()
            }
            Op::Open => {
                self.by_hand = true;
                self.circuit.open_by_hand(self.now)
            }
            Op::Close => {
                (self.by_hand, self.in_a_row, self.streak) = (false, 0, None);
                self.circuit.close_by_hand(self.now)
            }
        };
        self.check_news(&before, &notices);
        self.check_row(&before, op);
    }

    fn admit(&mut self) {
        let before = self.circuit.clone();
        let due = before.retry_at.is_some_and(|at| at <= self.now);
        let wanted = before.probes_wanted(&self.policy, self.now);
        let answer = self.circuit.admit(&self.policy, PATIENCE, self.now);
        let Admission::Send(epoch) = answer else {
            assert_ne!(
                before.state,
                CircuitState::Closed,
                "a closed circuit holds nothing back"
            );
            assert_eq!(before, self.circuit, "what is held back leaves no trace");
            assert_eq!(wanted, 0, "what is asked for is taken");
            return;
        };
        if before.state == CircuitState::Closed {
            assert_eq!((epoch, &before), (None, &self.circuit));
            return;
        }
        assert!(wanted > 0, "what is taken was asked for");
        assert!(!self.by_hand, "opened by hand");
        let epoch = epoch.expect("what a circuit lets through that is not closed is a probe");
        if before.state == CircuitState::Open {
            assert!(due, "nothing goes through before its time");
        }
        if epoch != before.epoch {
            assert_eq!(epoch, before.epoch.wrapping_add(1));
            if before.state == CircuitState::HalfOpen {
                let waited = self.now - self.admitted_at.expect("it let a probe through");
                assert!(
                    waited >= PATIENCE,
                    "the epoch before was not over: {waited}"
                );
            }
        }
        let admitted = self.admitted.entry(epoch).or_default();
        *admitted += 1;
        assert!(
            *admitted <= self.policy.probes,
            "{admitted} probes of one epoch"
        );
        self.admitted_at = Some(self.now);
    }

    fn observe(&mut self, signal: Signal, origin: Origin) -> Vec<Notice> {
        let before = self.circuit.clone();
        let epoch = match origin {
            Origin::Probe => Some(before.epoch),
            Origin::Stale => Some(before.epoch.wrapping_sub(1)),
            Origin::NoProbe => None,
        };
        let report = Report {
            circuit: Uuid::nil(),
            epoch,
            signal,
        };
        let notices = self.circuit.observe(&self.policy, report, self.now);
        let expected = self.expect(&before, signal, epoch);
        assert_eq!(notices, expected, "{before:?} heard {report:?}");
        notices
    }

    /// What operators are to hear.
    fn expect(&mut self, before: &Model, signal: Signal, epoch: Option<i32>) -> Vec<Notice> {
        match (before.state, signal) {
            (CircuitState::Open, Signal::Success) => Vec::new(),
            (CircuitState::HalfOpen, _) if epoch != Some(before.epoch) => Vec::new(),
            (CircuitState::HalfOpen, Signal::Success) => {
                let succeeded = self.succeeded.entry(before.epoch).or_default();
                *succeeded += 1;
                if *succeeded < self.policy.probes {
                    assert_eq!(self.circuit.state, CircuitState::HalfOpen);
                    return Vec::new();
                }
                assert_eq!(self.circuit.state, CircuitState::Closed);
                [vec![Notice::Closed], self.works()].concat()
            }
            (CircuitState::Closed, Signal::Success) => self.works(),
            (CircuitState::Closed, Signal::Busy) if before.pace.is_none_or(|pace| pace > 1) => {
                self.fails()
            }
            (CircuitState::Closed, _) => {
                self.in_a_row += 1;
                let opens = self.in_a_row >= self.policy.failure_threshold;
                assert_eq!(self.circuit.state == CircuitState::Open, opens);
                let opened = opens.then_some(Notice::Opened);
                opened.into_iter().chain(self.fails()).collect()
            }
            (CircuitState::HalfOpen, _) => {
                assert_eq!(
                    self.circuit.state,
                    CircuitState::Open,
                    "one probe that fails is enough"
                );
                let limit = self.policy.open_at_most.max(self.policy.open).as_secs();
                let twice = u64::try_from(before.open_seconds).unwrap() * 2;
                let expected = twice.clamp(self.policy.open.as_secs(), limit);
                assert_eq!(u64::try_from(self.circuit.open_seconds).unwrap(), expected);
                self.fails()
            }
            (CircuitState::Open, _) => self.fails(),
        }
    }

    fn works(&mut self) -> Vec<Notice> {
        (self.in_a_row, self.streak) = (0, None);
        let warned = std::mem::take(&mut self.warned) > 0;
        warned.then_some(Notice::Recovered).into_iter().collect()
    }

    fn fails(&mut self) -> Vec<Notice> {
        let limit = TimeDelta::from_std(self.policy.disable_after).unwrap();
        if self
            .failed_at
            .is_some_and(|last| self.now - last > limit / 2)
        {
            self.streak = None;
        }
        if self.streak.is_none() {
            self.warned = 0;
        }
        let failing = self.now - *self.streak.get_or_insert(self.now);
        self.failed_at = Some(self.now);
        let reached = [50, 90, 100]
            .into_iter()
            .rfind(|percent| failing * 100 >= limit * *percent);
        let Some(percent) = reached.filter(|percent| *percent > self.warned) else {
            return Vec::new();
        };
        self.warned = percent;
        vec![match percent {
            100 => Notice::Disable,
            percent => Notice::Disabling(percent),
        }]
    }

    fn check_news(&mut self, before: &Model, notices: &[Notice]) {
        for notice in notices {
            let open = match notice {
                Notice::Opened => true,
                Notice::Closed => false,
                _ => continue,
            };
            assert_ne!(open, self.told_open, "operators hear of a change once");
            self.told_open = open;
        }
        assert_eq!(self.told_open, self.circuit.state != CircuitState::Closed);
        if self.circuit.state == CircuitState::Closed && before.state != CircuitState::Closed {
            assert!(
                self.circuit.release_at.is_some(),
                "what was held back is released"
            );
            self.in_a_row = 0;
        }
    }

    fn check_row(&mut self, before: &Model, op: Op) {
        let row = &self.circuit;
        let begins_anew = matches!(op, Op::Close) || before.pace.is_none() || row.pace.is_none();
        if begins_anew && before.pace_at != row.pace_at {
            self.slowed_at = None;
        }
        assert!(row.history.0.len() <= 20);
        if let Some(pace) = row.pace {
            assert!((1..=1024).contains(&pace), "{pace}");
        }
        if let (Some(old), Some(new), Op::Observe(signal, _)) = (before.pace, row.pace, op)
            && old != new
        {
            assert_eq!(new > old, signal == Signal::Success);
            let last = if new > old {
                before.pace_at
            } else {
                self.slowed_at.replace(self.now)
            };
            assert!(last.is_none_or(|last| self.now - last >= TimeDelta::seconds(1)));
        }
        assert_eq!(row.opened_at.is_some(), row.state != CircuitState::Closed);
        match row.state {
            CircuitState::Closed => assert_eq!(row.retry_at, None),
            CircuitState::Open => assert_eq!(row.retry_at.is_none(), self.by_hand),
            CircuitState::HalfOpen => assert!(row.retry_at.is_some() && row.probes > 0),
        }
        if self.by_hand {
            assert_eq!(row.state, CircuitState::Open, "until it is closed by hand");
        }
        if row.state == CircuitState::Open && before.state != CircuitState::Open && !self.by_hand {
            let wait = TimeDelta::seconds(row.open_seconds.into());
            assert_eq!(row.retry_at, Some(self.now + wait));
            assert_eq!(
                row.release_at, row.retry_at,
                "somebody looks when it is due"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_a_circuit_keeps_its_rules(
        policy in policy(),
        ops in proptest::collection::vec(op(), 1..200),
    ) {
        let mut rules = Rules::new(policy);
        for op in ops {
            rules.play(op);
        }
    }

    #[test]
    fn no_time_and_no_setting_is_too_odd_for_a_circuit(
        (failure_threshold, open, open_at_most, probes, disable_after)
            in any::<(u32, u64, u64, u32, u64)>(),
        steps in proptest::collection::vec((op(), 0..253_402_300_799_999_i64), 1..60),
    ) {
        let policy = settings::Circuit {
            failure_threshold,
            open: Duration::from_secs(open),
            open_at_most: Duration::from_secs(open_at_most),
            probes,
            disable_after: Duration::from_secs(disable_after),
        };
        let mut circuit = Model::new(Uuid::nil(), None, DateTime::default());
        for (op, millis) in steps {
            // Any year that a timestamp shows, backwards too: the clocks of two workers differ.
            let at = DateTime::from_timestamp_millis(millis).unwrap();
            match op {
                Op::Admit => { circuit.admit(&policy, PATIENCE, at); }
                Op::Observe(signal, _) => {
                    let report = Report { circuit: Uuid::nil(), epoch: Some(circuit.epoch), signal };
                    circuit.observe(&policy, report, at);
                }
                Op::Pass(_) => { circuit.probes_wanted(&policy, at); }
                Op::Open => { circuit.open_by_hand(at); }
                Op::Close => { circuit.close_by_hand(at); }
            }
        }
    }
}

#[test]
fn an_endpoint_with_little_traffic_closes_its_circuit_probe_by_probe() {
    let policy = settings::Circuit {
        failure_threshold: 1,
        open: Duration::from_secs(10),
        open_at_most: Duration::from_secs(10),
        probes: 3,
        disable_after: Duration::from_secs(432_000),
    };
    let mut rules = Rules::new(policy);
    rules.play(Op::Observe(Signal::Failure, Origin::NoProbe));
    for _ in 0..3 {
        assert_ne!(rules.circuit.state, CircuitState::Closed);
        // Longer than a probe's result may take: but none is missing.
        rules.play(Op::Pass(TimeDelta::minutes(10)));
        rules.play(Op::Admit);
        rules.play(Op::Observe(Signal::Success, Origin::Probe));
    }
    assert_eq!(rules.circuit.state, CircuitState::Closed);
}

#[test]
fn among_good_answers_a_busy_one_slows_down_at_once_and_nothing_grows_while_nothing_is_released() {
    let mut rules = Rules::new(settings::Circuit {
        failure_threshold: 10,
        open: Duration::from_secs(10),
        open_at_most: Duration::from_secs(10),
        probes: 1,
        disable_after: Duration::from_secs(432_000),
    });
    rules.play(Op::Close);
    let mut paces = Vec::new();
    for second in 0..9 {
        rules.play(Op::Pass(TimeDelta::seconds(1)));
        rules.circuit.release_at = rules.circuit.release_at.max(Some(rules.now));
        rules.play(Op::Observe(Signal::Success, Origin::NoProbe));
        if second == 2 {
            rules.play(Op::Observe(Signal::Busy, Origin::NoProbe));
            rules.play(Op::Observe(Signal::Busy, Origin::NoProbe));
        }
        paces.push(rules.circuit.pace.unwrap());
    }
    assert_eq!(paces, [32, 64, 64, 64, 64, 128, 256, 512, 1024]);
}
