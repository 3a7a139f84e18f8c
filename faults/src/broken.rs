//! The guarantees that turned out to be broken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many are shown: one cause can break a guarantee for thousands of deliveries.
const SHOWN: usize = 60;

/// Shows each and counts them. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<Mutex<usize>>);

impl Broken {
    /// Notes one, with whatever helps to find the cause.
    pub(crate) fn note(&self, what: impl Into<String>) {
        let count = {
            let mut count = self.lock();
            *count += 1;
            *count
        };
        if count <= SHOWN {
            eprintln!("BROKEN: {}", what.into());
        } else if count == SHOWN + 1 {
            eprintln!("BROKEN: more of it, which is not shown");
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
