//! The state machine of a delivery.

use super::{Reason, Status};
use crate::clock::Timestamp;

/// What happens to a delivery after an attempt, or instead of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Confirmed by the receiver: done.
    Delivered,
    /// Failed for now: the next attempt is due at this time.
    RetryAt(Timestamp),
    /// Will not be tried again until somebody replays it.
    DeadLettered(Reason),
}

/// One arrow of the diagram in `docs/delivery-flow.md`. `from` is `None` where a delivery begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state before.
    pub from: Option<Status>,
    /// What happens, as the diagram words it.
    pub on: &'static str,
    /// The state after.
    pub to: Status,
}

/// Every transition there is.
pub const TRANSITIONS: &[Transition] = &[
    Transition {
        from: None,
        on: "accepted",
        to: Status::Pending,
    },
    Transition {
        from: Some(Status::Pending),
        on: Outcome::Delivered.name(),
        to: Status::Delivered,
    },
    Transition {
        from: Some(Status::Pending),
        on: "retry at",
        to: Status::Pending,
    },
    // Held back, with a reason, and let go again.
    Transition {
        from: Some(Status::Pending),
        on: "parked",
        to: Status::Pending,
    },
    Transition {
        from: Some(Status::Pending),
        on: "released",
        to: Status::Pending,
    },
    Transition {
        from: Some(Status::Pending),
        on: "dead-lettered",
        to: Status::Dead,
    },
    Transition {
        from: Some(Status::Pending),
        on: "cancelled",
        to: Status::Discarded,
    },
    Transition {
        from: Some(Status::Dead),
        on: "replayed",
        to: Status::Pending,
    },
    Transition {
        from: Some(Status::Dead),
        on: "discarded",
        to: Status::Discarded,
    },
    // Of a mail that is dead as uncertain: the worker that sent it learns the mail server's answer after all.
    Transition {
        from: Some(Status::Dead),
        on: "accepted after all",
        to: Status::Delivered,
    },
    Transition {
        from: Some(Status::Dead),
        on: "refused after all",
        to: Status::Pending,
    },
];

impl Outcome {
    /// What happens, as the diagram and [`TRANSITIONS`] word it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::RetryAt(_) => "retry at",
            Self::DeadLettered(_) => "dead-lettered",
        }
    }

    /// The state that a pending delivery is in afterwards.
    pub const fn status(self) -> Status {
        match self {
            Self::Delivered => Status::Delivered,
            Self::RetryAt(_) => Status::Pending,
            Self::DeadLettered(_) => Status::Dead,
        }
    }

    /// When the next attempt is due, if there is one.
    pub const fn next_attempt_at(self) -> Option<Timestamp> {
        match self {
            Self::RetryAt(at) => Some(at),
            Self::Delivered | Self::DeadLettered(_) => None,
        }
    }

    /// Why the delivery is dead, if it is.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::DeadLettered(reason) => Some(reason),
            Self::Delivered | Self::RetryAt(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DOC: &str = include_str!("../../../docs/delivery-flow.md");

    #[test]
    fn the_diagram_shows_the_states_and_transitions_of_the_code() {
        let diagram = DOC
            .split("```mermaid")
            .find(|part| part.contains("stateDiagram"))
            .unwrap();
        let diagram = diagram.split("```").next().unwrap();
        let drawn: BTreeSet<String> = diagram
            .lines()
            .filter(|line| line.contains("-->") && !line.trim_end().ends_with("[*]"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let coded: BTreeSet<String> = TRANSITIONS
            .iter()
            .map(|step| {
                let from = step.from.map_or("[*]", Status::as_str);
                format!("{from} --> {}: {}", step.to, step.on)
            })
            .collect();
        assert_eq!(drawn, coded);
    }

    #[test]
    fn an_outcome_leads_where_the_table_says() {
        let outcomes = [
            Outcome::Delivered,
            Outcome::RetryAt(Timestamp::default()),
            Outcome::DeadLettered(Reason::RetriesExhausted),
        ];
        for outcome in outcomes {
            assert!(
                TRANSITIONS
                    .iter()
                    .any(|step| step.from == Some(Status::Pending)
                        && step.on == outcome.name()
                        && step.to == outcome.status())
            );
        }
    }
}
