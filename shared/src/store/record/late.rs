//! Attempts whose deliveries are no longer as they were loaded.
//!
//! A mail that was taken for abandoned is dead as `uncertain`, or waits to be sent again. Its worker may have been frozen
//! only, and learn the mail server's answer after all. That answer is what is true. It takes effect as long as the delivery
//! still stands where the attempt has left it: nobody has replayed or discarded it, and no later attempt hands it over.

use std::sync::LazyLock;

use sea_orm::DbErr;

use super::{Jobs, Report, columns, update, update_where};
use crate::{db::Transaction, replay, store::mark};

/// Counts an attempt whose delivery had come to its end meanwhile: was cancelled, or expired. An attempt that another worker
/// has counted already is not counted.
static COUNT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE deliveries SET attempt_count = attempts, {} FROM given \
         WHERE id = delivery_id AND attempt_count = seen AND status <> 'pending' RETURNING id, replay_id",
        mark::CLEAR
    )
});

/// Corrects an uncertain mail: the attempt that is counted last is the one whose answer came after all.
static CORRECT_DEAD: LazyLock<String> = LazyLock::new(|| {
    update_where(
        "id = delivery_id AND attempt_count = seen + 1 AND status = 'dead' AND reason = 'uncertain'",
    )
});

/// The same where the tenant has mails sent again: it waits for the next attempt of the same schedule.
static CORRECT_WAITING: LazyLock<String> = LazyLock::new(|| {
    update_where(
        "id = delivery_id AND attempt_count = seen + 1 AND status = 'pending' AND schedule_start <= seen \
         AND sending_token IS NULL",
    )
});

/// An attempt with a known end takes the place of the one that was recorded for it without.
pub(super) static REPLACE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "ON CONFLICT (delivery_id, number) DO UPDATE SET {}",
        columns::corrected()
    )
});

/// The effects of late attempts.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// Attempts that are counted, of deliveries that had ended.
    pub(super) counted: Jobs,
    /// Mails for which the late answer took effect.
    pub(super) corrected: Jobs,
}

/// Counts the attempts of reports whose outcomes had no effect, and corrects deliveries that were uncertain.
pub(super) async fn settle(
    tx: &Transaction,
    reports: &[&Report<'_>],
    effective: &Jobs,
) -> Result<Late, DbErr> {
    let mut late: Vec<&Report<'_>> = reports
        .iter()
        .copied()
        .filter(|report| report.attempt.is_some() && !effective.contains_key(&report.id()))
        .collect();
    let counted = update(tx, &late, &COUNT).await?;
    late.retain(|report| report.knows_better());
    let mut corrected = update(tx, &late, &CORRECT_DEAD).await?;
    replay::take_back_dead(tx, corrected.values().flatten().copied()).await?;
    corrected.extend(update(tx, &late, &CORRECT_WAITING).await?);
    Ok(Late { counted, corrected })
}

impl Report<'_> {
    /// Whether its attempt has handed a mail over and its end is known, so that it may be better known than what the row says.
    fn knows_better(&self) -> bool {
        self.attempt
            .is_some_and(|ended| ended.token.is_some() && !ended.uncertain)
    }
}
