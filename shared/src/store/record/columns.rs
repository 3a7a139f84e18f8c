//! The columns that an outcome and an attempt write: one list for each table, from which both forms of
//! recording make their statements.

use std::fmt::Write as _;

use sea_orm::IdenStatic as _;

use crate::store::{
    mark,
    schema::{attempt::Column as OfAttempt, delivery::Column as OfDelivery},
};

/// The values that an outcome gives the columns of a delivery, as SQL over the given rows.
pub(super) struct Values {
    pub(super) status: &'static str,
    pub(super) attempt_count: &'static str,
    /// When the next attempt is due, which is also when the dispatcher looks at the delivery.
    pub(super) next_attempt_at: &'static str,
    pub(super) reason: &'static str,
    pub(super) error_class: &'static str,
    pub(super) finished_at: &'static str,
    pub(super) dead_at: &'static str,
}

impl Values {
    /// Every column of `deliveries` that an outcome changes, but for those of the mark.
    const fn assigned(&self) -> [(OfDelivery, &'static str); 9] {
        [
            (OfDelivery::Status, self.status),
            (OfDelivery::AttemptCount, self.attempt_count),
            (OfDelivery::NextAttemptAt, self.next_attempt_at),
            (OfDelivery::DispatchAt, self.next_attempt_at),
            (OfDelivery::Reason, self.reason),
            (OfDelivery::ErrorClass, self.error_class),
            (OfDelivery::FinishedAt, self.finished_at),
            (OfDelivery::DeadAt, self.dead_at),
            // It waits for no circuit any more.
            (OfDelivery::ParkedFor, "NULL"),
        ]
    }

    /// The assignments of an update. They clear the mark of a mail: the attempt that has set it is over.
    pub(super) fn set(&self) -> String {
        let mut sql = String::new();
        for (column, value) in self.assigned() {
            // Writing into a string cannot fail.
            let _ = write!(sql, "{} = {value}, ", column.as_str());
        }
        sql + mark::CLEAR
    }
}

/// The columns of an attempt that has delivered, with their values as SQL over the given rows. It has no error class.
pub(super) const DELIVERED_ATTEMPT: [(OfAttempt, &str); 10] = [
    (OfAttempt::DeliveryId, "delivery_id"),
    (OfAttempt::Number, "seen + 1"),
    (OfAttempt::Id, "attempt"),
    (OfAttempt::TenantId, "tenant"),
    (OfAttempt::StartedAt, "started"),
    (OfAttempt::DurationMs, "took"),
    (OfAttempt::Outcome, "'delivered'"),
    (OfAttempt::HttpStatus, "answer"),
    (OfAttempt::ResponseSnippet, "snippet"),
    (OfAttempt::RequestId, "request"),
];

/// The columns in which an attempt whose end became known late takes the place of the one that was recorded without. The attempt
/// keeps its ids.
const CORRECTED: [OfAttempt; 6] = [
    OfAttempt::StartedAt,
    OfAttempt::DurationMs,
    OfAttempt::Outcome,
    OfAttempt::ErrorClass,
    OfAttempt::HttpStatus,
    OfAttempt::ResponseSnippet,
];

/// The assignments of [`CORRECTED`] in an insert that meets the attempt that was recorded.
pub(super) fn corrected() -> String {
    let assignments = CORRECTED.map(|column| format!("{0} = excluded.{0}", column.as_str()));
    assignments.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Debug};

    use sea_orm::{IdenStatic, Iterable};

    use super::*;

    /// The columns that an outcome never changes: the content, the target, the times that bound it, the replay that it
    /// belongs to, and why it was parked the last time.
    const KEPT: [OfDelivery; 14] = [
        OfDelivery::Id,
        OfDelivery::TenantId,
        OfDelivery::Kind,
        OfDelivery::MessageId,
        OfDelivery::EndpointId,
        OfDelivery::EmailId,
        OfDelivery::Recipient,
        OfDelivery::CreatedAt,
        OfDelivery::ReplayedAt,
        OfDelivery::ScheduleStart,
        OfDelivery::ExpiresAt,
        OfDelivery::ReplayId,
        OfDelivery::ParkedReason,
        OfDelivery::ParkedAt,
    ];

    /// Panics unless each column of a table is in exactly one of the two lists.
    fn assert_complete<C: Iterable + IdenStatic + Debug>(named: &[C], left_out: &[C]) {
        let both = named.iter().chain(left_out);
        let listed: BTreeSet<&str> = both.map(|column| column.as_str()).collect();
        assert_eq!(listed.len(), named.len() + left_out.len(), "one is in both");
        let all: BTreeSet<&str> = C::iter().map(|column| column.as_str()).collect();
        assert_eq!(listed, all);
    }

    fn assigned() -> Vec<OfDelivery> {
        let values = Values {
            status: "",
            attempt_count: "",
            next_attempt_at: "",
            reason: "",
            error_class: "",
            finished_at: "",
            dead_at: "",
        };
        values.assigned().map(|(column, _)| column).to_vec()
    }

    #[test]
    fn an_outcome_changes_or_keeps_every_column_of_a_delivery() {
        assert_complete(&assigned(), &KEPT);
    }

    #[test]
    fn a_delivered_attempt_is_written_with_every_column_but_its_error_class() {
        let named = DELIVERED_ATTEMPT.map(|(column, _)| column);
        assert_complete(&named, &[OfAttempt::ErrorClass]);
    }

    #[test]
    fn a_late_answer_corrects_every_column_but_what_identifies_the_attempt() {
        let kept = [
            OfAttempt::DeliveryId,
            OfAttempt::Number,
            OfAttempt::Id,
            OfAttempt::TenantId,
            OfAttempt::RequestId,
        ];
        assert_complete(&CORRECTED, &kept);
    }
}
