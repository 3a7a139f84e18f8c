//! API keys that were looked up a moment ago.
//!
//! A key that another process revokes is let in for at most [`LASTS`] longer; one that this process revokes is forgotten at
//! once. When a key ends by itself is decided at each use. Keys that are unknown are not remembered: a new one is good
//! as soon as it is there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use relaypost_shared::{entities::api_key, ids::KeyId};

/// How long a key is remembered, counted from before it was looked up.
const LASTS: Duration = Duration::from_millis(900);
/// How many are remembered at most.
const ROOM: usize = 10_000;

/// The keys that this process remembers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered(Arc<Mutex<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    rows: HashMap<KeyId, (Arc<api_key::Model>, Instant)>,
    /// Counts what was forgotten: a row that was asked for before is not kept.
    forgotten: u64,
}

/// When a look-up began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began {
    at: Instant,
    forgotten: u64,
}

impl Remembered {
    /// The key's row, unless too much time has gone by.
    pub(super) fn find(&self, id: KeyId) -> Option<Arc<api_key::Model>> {
        let rows = self.rows();
        let (row, at) = rows.rows.get(&id)?;
        (at.elapsed() < LASTS).then(|| row.clone())
    }

    /// To be called before a look-up, for [`Remembered::keep`].
    pub(super) fn begin(&self) -> Began {
        Began {
            at: Instant::now(),
            forgotten: self.rows().forgotten,
        }
    }

    /// Remembers what a look-up has found.
    pub(super) fn keep(&self, began: Began, row: Arc<api_key::Model>) {
        let mut rows = self.rows();
        if rows.forgotten != began.forgotten {
            return;
        }
        if rows.rows.len() >= ROOM {
            rows.rows.clear();
        }
        rows.rows.insert(row.id, (row, began.at));
    }

    /// Forgets a key that was changed.
    pub(super) fn forget(&self, id: KeyId) {
        let mut rows = self.rows();
        rows.forgotten += 1;
        rows.rows.remove(&id);
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
