//! Mails that were loaded with the mark of an attempt: another worker is handing them over, or was when it died.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Clock,
    db::{self, Database},
    ids::DeliveryId,
    store::mark::{self, Sending},
};
use sea_orm::DbErr;

use crate::{
    handover::ABANDONED_AFTER,
    load::Loaded,
    send::{Attempted, Failure},
};

/// The words of an attempt that nobody saw the end of.
const LOST: &str =
    "The worker ended before the mail server answered. The mail may have been accepted.";

/// What is to be done with marked mails.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Those whose worker is gone, each with the attempt that it had begun.
    pub(crate) abandoned: Vec<(Loaded, Attempted)>,
    /// Those whose worker may live. They are looked at again when their marks are old; until then they need no job.
    pub(crate) put_off: Vec<DeliveryId>,
}

/// Tells abandoned mails from those that are being sent, by the database's time, and puts the latter off.
///
/// # Errors
/// When the database fails; then nothing is put off.
pub(crate) async fn judge(
    db: &Database,
    clock: &Clock,
    marked: Vec<(Loaded, Sending)>,
) -> Result<Judged, DbErr> {
    let mut judged = Judged::default();
    let mut longest = TimeDelta::zero();
    let now = db::now(db, clock).await?;
    for (loaded, mark) in marked {
        let age = now - mark.at;
        if age >= ABANDONED_AFTER {
            judged.abandoned.push((loaded, attempt(mark, age)));
        } else {
            longest = longest.max(ABANDONED_AFTER - age);
            judged.put_off.push(loaded.delivery.id);
        }
    }
    mark::put_off(db, &judged.put_off, clock.now() + longest).await?;
    Ok(judged)
}

/// The attempt that an abandoned mail's worker had begun, as far as it is known.
fn attempt(mark: Sending, age: TimeDelta) -> Attempted {
    Attempted {
        started_at: mark.at,
        duration: age.to_std().unwrap_or_default(),
        result: Err(Failure::uncertain(LOST)),
        // Nobody knows what the provider did.
        reports: Vec::new(),
        handover: Some(mark.token),
    }
}
