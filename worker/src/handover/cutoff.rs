//! When a worker that stops waits no longer for mail servers.

use tokio::sync::watch;

/// The moment from which on a worker that stops waits no longer for the answers of mail servers. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cutoff {
    reached: watch::Sender<bool>,
    open: watch::Sender<usize>,
}

impl Cutoff {
    /// From now on: what waits for an answer ends as `uncertain`, and nothing more is handed over.
    pub fn reach(&self) {
        self.reached.send_replace(true);
    }

    /// Completes when every mail whose content was handed over is recorded.
    pub async fn recorded(&self) {
        // The sender is this value's own, so that it cannot be gone.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    pub(super) fn is_reached(&self) -> bool {
        *self.reached.borrow()
    }

    pub(super) async fn reached(&self) {
        // As above.
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    pub(super) fn open(&self) -> Open {
        self.open.send_modify(|open| *open += 1);
        Open(self.open.clone())
    }
}

/// A handover that has begun.
#[derive(Debug)]
pub(super) struct Open(watch::Sender<usize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}
