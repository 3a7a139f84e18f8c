//! Attempts whose deliveries are no longer as they were loaded.
//!
//! A mail that was taken for abandoned is dead as `uncertain`, or waits to be sent again. Its worker may have been frozen
//! only, and learn the mail server's answer after all. That answer is what is true. It takes effect as long as the delivery
//! still stands where the attempt has left it: nobody has replayed or discarded it, and no later attempt hands it over.

use std::sync::Arc;

use relaypost_shared::{db::Transaction, replay};
use sea_orm::DbErr;

use super::{CLEAR, Jobs, RETURNING, Recorded, SET, write};

/// What is done for an attempt whose delivery had come to its end meanwhile: was cancelled, or expired. An attempt that
/// another worker has counted already is not counted.
const COUNT: &str = "UPDATE deliveries SET attempt_count = attempts, sending_token = NULL, sending_at = NULL FROM given \
     WHERE id = delivery_id AND attempt_count = seen AND status <> 'pending' RETURNING id, replay_id";

/// Of an uncertain mail: the attempt that is counted last is the one whose answer came after all.
const CORRECT_DEAD: &str = "FROM given WHERE id = delivery_id AND attempt_count = seen + 1 \
     AND status = 'dead' AND reason = 'uncertain'";
/// The same where the tenant has mails sent again: it waits for the next attempt of the same schedule.
const CORRECT_WAITING: &str = "FROM given WHERE id = delivery_id AND attempt_count = seen + 1 \
     AND status = 'pending' AND schedule_start <= seen AND sending_token IS NULL";

/// What was done about late attempts.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Attempts that are counted, of deliveries that had ended.
    pub(super) counted: Jobs,
    /// Mails for which the late answer took effect.
    pub(super) corrected: Jobs,
}

/// Counts the attempts of a slice whose outcomes had no effect, and corrects what was uncertain.
pub(super) async fn settle(
    transaction: &Transaction,
    slice: &[Arc<Recorded>],
    effective: &Jobs,
) -> Result<Late, DbErr> {
    let late: Vec<&Recorded> = slice
        .iter()
        .map(Arc::as_ref)
        .filter(|one| one.attempted.is_some() && !effective.contains_key(&one.id()))
        .collect();
    if late.is_empty() {
        return Ok(Late::default());
    }
    let counted = write(transaction, &late, COUNT).await?;
    let known: Vec<&Recorded> = late.into_iter().filter(|one| one.knows_better()).collect();
    if known.is_empty() {
        let corrected = Jobs::new();
        return Ok(Late { counted, corrected });
    }
    let correct = |which| format!("UPDATE deliveries SET {SET}, {CLEAR} {which} {RETURNING}");
    let mut corrected = write(transaction, &known, &correct(CORRECT_DEAD)).await?;
    replay::take_back_dead(transaction, corrected.values().flatten().copied()).await?;
    corrected.extend(write(transaction, &known, &correct(CORRECT_WAITING)).await?);
    Ok(Late { counted, corrected })
}

/// An attempt with a known end takes the place of the one that was recorded for it without.
pub(super) const REPLACE: &str = "ON CONFLICT (delivery_id, number) DO UPDATE SET started_at = excluded.started_at, \
     duration_ms = excluded.duration_ms, outcome = excluded.outcome, error_class = excluded.error_class, \
     http_status = excluded.http_status, response_snippet = excluded.response_snippet";

impl Recorded {
    /// Whether its attempt has handed a mail over and its end is known, so that it may be better known than what the row says.
    fn knows_better(&self) -> bool {
        self.attempted.as_ref().is_some_and(|attempted| {
            let uncertain = matches!(&attempted.result, Err(failure) if failure.uncertain);
            attempted.handover.is_some() && !uncertain
        })
    }
}
