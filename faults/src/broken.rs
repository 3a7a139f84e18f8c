//! The guarantees that turned out to be broken.

use std::sync::{Arc, Mutex, PoisonError};

/// A list that everybody can write to. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<Mutex<Vec<String>>>);

impl Broken {
    /// Notes one, with whatever helps to find the cause.
    pub(crate) fn note(&self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("BROKEN: {what}");
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
