//! Deliveries whose endpoint has secrets that this process cannot open: its key is not in `ENCRYPTION_KEYS`, or the row
//! is damaged. Nothing about that is the receiver's fault, and a person can mend it: they wait, and use up no attempt.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use relaypost_shared::{secrets::OpenError, store::Delivery};
use tokio::time::Instant;

/// How long such a delivery waits at least, in seconds. One that has the turn of an ordered endpoint keeps it.
const WAIT: i64 = 60;
/// How much longer at most, so that those that were found together do not all come back together.
const SPREAD: i64 = 20;
/// At most one line in this time.
const QUIET: Duration = Duration::from_secs(10);

/// Tells the log, without flooding it. Clones share what has been told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unreadable(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    deliveries: u64,
}

impl Unreadable {
    /// Tells of one delivery, and returns how long it waits.
    pub(crate) fn tell(&self, delivery: &Delivery, why: &OpenError) -> TimeDelta {
        if let Some(deliveries) = self.due() {
            tracing::error!(
                tenant_id = %delivery.tenant_id,
                delivery = %delivery.id,
                endpoint = delivery.endpoint_id.map(tracing::field::display),
                deliveries,
                %why,
                "a secret of the endpoint cannot be opened: its deliveries wait, and are tried again in about a minute. \
                 Mend ENCRYPTION_KEYS and restart; where the row is damaged, rotate the secret with no grace period, or set the headers anew"
            );
        }
        TimeDelta::seconds(WAIT + rand::random_range(0..=SPREAD))
    }

    /// How many deliveries the next line tells of, if it is time for one.
    fn due(&self) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.deliveries += 1;
        if told.at.is_some_and(|at| at.elapsed() < QUIET) {
            return None;
        }
        told.at = Some(Instant::now());
        Some(std::mem::take(&mut told.deliveries))
    }
}
