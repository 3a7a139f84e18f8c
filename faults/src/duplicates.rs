//! What was sent again although it had been taken, and which fault can be blamed for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use relaypost_testkit::Mail;

use crate::{check::row_key, receivers::Endpoint, struck::Struck};

/// An attempt lasts no longer than this: one that is answered so long after a fault had begun before it.
const ATTEMPT: Duration = Duration::from_secs(1);

/// One arrival too many.
#[derive(Clone, Debug)]
pub(crate) struct Duplicate {
    /// What, for messages about it.
    pub(crate) what: String,
    /// What its row is found by: see `check::row_key`.
    pub(crate) row: String,
    /// When it was taken for the first time.
    first: Instant,
    /// When it came again.
    again: Instant,
}

impl Duplicate {
    /// The place, in `struck`, of the fault that it comes from: one that was there between the two arrivals, and that
    /// can make a worker forget. Of several the one nearest to the first arrival.
    pub(crate) fn cause(&self, struck: &[Struck]) -> Option<usize> {
        let candidates = struck.iter().enumerate().filter(|(_, one)| {
            one.workers_concerned > 0
                && one.from <= self.again
                && one.blamed_until + ATTEMPT >= self.first
        });
        candidates
            .min_by_key(|(_, one)| distance(one.from, self.first))
            .map(|(place, _)| place)
    }

    /// Where it lies in the time since `began`.
    pub(crate) fn when(&self, began: Instant) -> String {
        let since = |at: Instant| at.saturating_duration_since(began).as_secs_f64();
        format!(
            "taken at {:.3} s, again at {:.3} s",
            since(self.first),
            since(self.again)
        )
    }
}

fn distance(one: Instant, other: Instant) -> Duration {
    one.max(other) - one.min(other)
}

/// Webhooks that came again to an endpoint that had answered 200.
pub(crate) fn of_webhooks(endpoints: &[Endpoint]) -> Vec<Duplicate> {
    let mut duplicates = Vec::new();
    for endpoint in endpoints {
        for (id, arrivals) in endpoint.arrivals() {
            let mut arrivals = arrivals.iter().skip_while(|one| !one.taken);
            let Some(first) = arrivals.next() else {
                continue;
            };
            duplicates.extend(arrivals.map(|again| Duplicate {
                what: format!("{id} at the {}", endpoint.describe()),
                row: row_key(&id, &endpoint.id),
                first: first.at,
                again: again.at,
            }));
        }
    }
    duplicates
}

/// Mails that came again to the same recipient: each recipient is written to once.
pub(crate) fn of_mails(mails: &[Mail]) -> Vec<Duplicate> {
    let (mut seen, mut duplicates) = (HashMap::new(), Vec::new());
    for mail in mails {
        for recipient in &mail.to {
            if let Some(first) = seen.get(recipient) {
                duplicates.push(Duplicate {
                    what: format!("the mail to {recipient}"),
                    row: row_key("", recipient),
                    first: *first,
                    again: mail.at,
                });
            } else {
                seen.insert(recipient, mail.at);
            }
        }
    }
    duplicates
}

#[cfg(test)]
mod tests {
    use relaypost_testkit::Silence;

    use super::*;
    use crate::plan::Fault;

    fn at(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    fn struck(began: Instant, fault: Fault, from: u64, until: u64) -> Struck {
        Struck::by(fault, at(began, from), at(began, until))
    }

    fn duplicate(began: Instant, first: u64, again: u64) -> Duplicate {
        Duplicate {
            what: "msg_1".to_owned(),
            row: String::new(),
            first: at(began, first),
            again: at(began, again),
        }
    }

    #[test]
    fn only_a_fault_that_makes_a_worker_forget_is_to_blame() {
        let began = Instant::now();
        let innocent = [
            Fault::StopWorker(0),
            Fault::StopApi(0),
            Fault::KillApi(0),
            Fault::CrashPostgres,
            Fault::SilentDatabase(Silence::Answers),
        ];
        for fault in innocent {
            let struck = [struck(began, fault, 11, 12)];
            assert_eq!(duplicate(began, 10, 15).cause(&struck), None, "{fault}");
        }
        let guilty = [
            Fault::KillWorker(0),
            Fault::FlushRedis,
            Fault::LoseRedis,
            Fault::SilentRedis(Silence::BothWays),
        ];
        for fault in guilty {
            let struck = [struck(began, fault, 11, 12)];
            assert_eq!(duplicate(began, 10, 15).cause(&struck), Some(0), "{fault}");
        }
    }

    #[test]
    fn a_fault_is_to_blame_only_if_it_came_between_and_the_nearest_one_is() {
        let began = Instant::now();
        let kill = |seconds| struck(began, Fault::KillWorker(1), seconds, seconds + 1);
        let lost = struck(began, Fault::LoseRedis, 20, 24);
        let duplicate = |first, again| duplicate(began, first, again);
        assert_eq!(duplicate(10, 15).cause(&[kill(5)]), None, "before");
        assert_eq!(duplicate(10, 15).cause(&[kill(16)]), None, "after");
        assert_eq!(duplicate(10, 15).cause(&[kill(14), kill(11)]), Some(1));
        // Redis forgets for as long as it is away, and a moment longer.
        assert_eq!(
            duplicate(26, 27).cause(std::slice::from_ref(&lost)),
            Some(0)
        );
        assert_eq!(duplicate(30, 31).cause(std::slice::from_ref(&lost)), None);
    }
}
