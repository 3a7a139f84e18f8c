//! Changes of marks: those that were asked for at the same moment, in one statement of each kind.

use std::sync::Arc;

use relaypost_shared::{
    clock::Clock,
    db::Database,
    store::mark::{self, Mark},
};
use sea_orm::DbErr;

/// A change of a mark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub(super) mark: Mark,
    pub(super) to: To,
}

/// The state that a mark is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Set, or renewed.
    Set,
    Cleared,
}

/// Writes changes, and answers each with whether its delivery was changed.
pub(super) async fn apply(
    db: &Database,
    clock: &Clock,
    batch: &[Change],
) -> Vec<Result<bool, Arc<DbErr>>> {
    let marks = |to| -> Vec<Mark> {
        let changes = batch.iter().filter(|change| change.to == to);
        changes.map(|change| change.mark).collect()
    };
    // First what is set: a mark that is taken back was asked for earlier.
    let set = mark::set(db, &marks(To::Set), clock.now()).await;
    let cleared = mark::clear(db, &marks(To::Cleared)).await;
    let (set, cleared) = (set.map_err(Arc::new), cleared.map_err(Arc::new));
    let answer = |change: &Change| {
        let written = match change.to {
            To::Set => &set,
            To::Cleared => &cleared,
        };
        match written {
            Ok(written) => Ok(written.contains(&change.mark.delivery)),
            Err(error) => Err(error.clone()),
        }
    };
    batch.iter().map(answer).collect()
}
