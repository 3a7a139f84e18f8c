//! The mark of a mail whose content is being handed over.
//!
//! Nobody removes a second copy of a mail. So before the first byte of the content goes out, the delivery's row says so: a
//! worker that is killed, frozen or cut off from then on leaves a row that tells that the mail may have been accepted.
//!
//! The store sets the mark ([`relaypost_shared::store::mark`]): of several workers that have the same delivery one may send.
//! Recording the attempt clears it.
//!
//! Another worker that loads a marked delivery takes the mail for abandoned only when two signals agree: the queue gave its
//! job away (the worker said nothing for four seconds, or the queue was lost), and the mark was not renewed for
//! [`ABANDONED_AFTER`]. The first alone is not enough, because the queue can lose its contents while the worker lives.

mod cutoff;
mod marks;

use std::{
    convert::Infallible,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use relaypost_shared::{
    batch::Batcher,
    clock::Clock,
    db::Database,
    store::{Delivery, mark::Mark},
};
use sea_orm::DbErr;
use uuid::Uuid;

use crate::retry;
use cutoff::Open;
use marks::{Change, To};

pub use cutoff::Cutoff;

/// How often a worker renews the mark of a mail whose answer it waits for.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A mark that was not renewed for this long is abandoned: two renewals are missing, and the time for a third is over.
pub const ABANDONED_AFTER: TimeDelta = TimeDelta::seconds(6);
/// How many changes share one statement at most.
const AT_MOST: usize = 100;

/// Marks deliveries, those of the same moment in one statement. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Handovers {
    changes: Batcher<Change, Result<bool, Arc<DbErr>>>,
    cutoff: Cutoff,
}

/// The content was not handed over, and no attempt was made.
#[derive(Debug, thiserror::Error)]
pub enum Withheld {
    /// The delivery is not as it was loaded: it has ended, or another worker hands it over.
    #[error("the delivery was changed, or another worker is sending it")]
    Changed,
    /// The row cannot be marked.
    #[error("the delivery cannot be marked: {0}")]
    Unavailable(Arc<DbErr>),
    /// The worker stops.
    #[error("the worker stops")]
    Stopping,
}

impl Handovers {
    /// Marks over the connections of `hot`.
    pub(crate) fn new(hot: Database, clock: Clock, cutoff: Cutoff) -> Self {
        let changes = Batcher::start(AT_MOST, hot.batch_limit(), move |batch: Vec<Change>| {
            let (hot, clock) = (hot.clone(), clock.clone());
            async move { marks::apply(&hot, &clock, &batch).await }
        });
        Self { changes, cutoff }
    }

    /// The handover of one attempt at a delivery.
    pub(crate) fn of(&self, delivery: &Delivery) -> Handover<'_> {
        Handover {
            handovers: self,
            mark: Mark {
                delivery: delivery.id,
                seen: delivery.attempt_count,
                token: Uuid::from_u128(rand::random()),
            },
            open: OnceLock::new(),
            marked: AtomicBool::new(false),
        }
    }
}

/// The handover of one attempt's content. It counts as open from its beginning until it is dropped, which should be after
/// the attempt is recorded.
#[derive(Debug)]
pub struct Handover<'a> {
    handovers: &'a Handovers,
    mark: Mark,
    open: OnceLock<Open>,
    marked: AtomicBool,
}

impl Handover<'_> {
    /// Marks the delivery. To be called directly before the content is handed over, and before each provider that is tried:
    /// the mark may have been lost to another worker meanwhile.
    ///
    /// # Errors
    /// When the content must not be handed over.
    pub(crate) async fn begin(&self) -> Result<(), Withheld> {
        let cutoff = &self.handovers.cutoff;
        self.open.get_or_init(|| cutoff.open());
        if cutoff.is_reached() {
            return Err(Withheld::Stopping);
        }
        match self.change(To::Set).await? {
            false => Err(Withheld::Changed),
            true if cutoff.is_reached() => Err(Withheld::Stopping),
            true => {
                self.marked.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Renews the mark until the future is dropped. A renewal that fails changes nothing here: the answer to the content
    /// counts, whoever records it.
    pub(crate) async fn renew(&self) -> Infallible {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            if let Err(error) = self.change(To::Set).await {
                tracing::warn!(%error, delivery = %self.mark.delivery, "mark not renewed; trying again");
            }
        }
    }

    /// Completes when the worker waits no longer for answers.
    pub(crate) async fn cut_off(&self) {
        self.handovers.cutoff.reached().await;
    }

    /// Clears the mark of an attempt that was not made, however long the database is away: with the mark left behind it
    /// would be taken for one that was.
    pub(crate) async fn take_back(&self) {
        for wait in retry::infrastructure() {
            match self.change(To::Cleared).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, delivery = %self.mark.delivery, "mark not cleared; trying again");
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// What this attempt has marked the delivery with, if it came that far.
    pub(crate) fn token(&self) -> Option<Uuid> {
        self.marked
            .load(Ordering::Relaxed)
            .then_some(self.mark.token)
    }

    async fn change(&self, to: To) -> Result<bool, Withheld> {
        let mark = self.mark;
        let change = Change { mark, to };
        let lost = |error| Withheld::Unavailable(Arc::new(DbErr::Custom(format!("{error}"))));
        let changed = self.handovers.changes.call(change).await.map_err(lost)?;
        changed.map_err(Withheld::Unavailable)
    }
}
