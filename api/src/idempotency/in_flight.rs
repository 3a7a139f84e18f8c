//! Requests with a key that are under way in this process: how many a tenant has, and who works under which key.
//!
//! This is what tells a second request at once that the first is still running, and on SQLite, which has one process, it
//! is all that does. Between processes on PostgreSQL the locks of [`super::Known`] do the same. Neither is what makes a key
//! good for one thing: that is the row with the answer, in the transaction of the work. So nothing here has to survive a
//! crash, and nothing can stay stuck: the registry dies with the process, and every entry goes with the work it stands for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use relaypost_shared::ids::TenantId;
use tokio::sync::watch;

use super::Keyed;
use crate::http::{ApiError, Code};

/// What this process has under way. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    tenants: Arc<Mutex<HashMap<TenantId, Tally>>>,
    max: usize,
}

/// What one tenant has under way.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    /// Who works under which key, and how far that is.
    keys: HashMap<String, watch::Receiver<Stage>>,
}

/// How far the first request with a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has not yet looked whether its answer is remembered.
    Looking,
    /// It does the work.
    Works,
    /// It does none: its answer is remembered, or another process is at work. Others may find the same.
    Idle,
}

/// A request's place among those that its tenant may have in flight. Dropping it gives the place back, also when the
/// client has gone away and the request is cut off.
#[derive(Debug)]
pub(crate) struct Place {
    in_flight: InFlight,
    tenant: TenantId,
}

/// A key that this request, or the work that it has handed in, has to itself in this process as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    keyed: Keyed,
    lead: Option<Lead>,
}

#[derive(Debug)]
struct Lead {
    in_flight: InFlight,
    tenant: TenantId,
    key: String,
    stage: watch::Sender<Stage>,
}

impl InFlight {
    /// At most `max` requests with a key are in flight for one tenant.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            tenants: Arc::default(),
            max,
        }
    }

    /// Takes a place for one request with a key, however many keys its items make of it.
    ///
    /// # Errors
    /// 429 when the tenant has as many in flight as it may.
    pub(crate) fn place(&self, tenant: TenantId) -> Result<Place, ApiError> {
        let mut tenants = self.lock();
        let tally = tenants.entry(tenant).or_default();
        if tally.requests >= self.max {
            let detail = format!(
                "{} requests with an `Idempotency-Key` are in flight; wait for their answers",
                self.max
            );
            return Err(ApiError::new(Code::TooManyInFlight, detail));
        }
        tally.requests += 1;
        Ok(Place {
            in_flight: self.clone(),
            tenant,
        })
    }

    /// Takes a key for the time of its work. While another request has it, this waits only until that one knows whether
    /// there is anything to do.
    ///
    /// # Errors
    /// 409 when the other one is at work.
    pub(crate) async fn hold(
        &self,
        tenant: TenantId,
        keyed: Keyed,
    ) -> Result<Arc<Held>, ApiError> {
        let lead = match self.lead(tenant, &keyed.key) {
            Ok(lead) => Some(lead),
            Err(mut first) => {
                let known = first.wait_for(|stage| *stage != Stage::Looking).await;
                match known.map(|stage| *stage) {
                    // The database decides, as it always does.
                    Ok(Stage::Idle) => None,
                    // It works, or it has failed just now, before it had anything to do.
                    Ok(Stage::Looking | Stage::Works) | Err(_) => return Err(in_use()),
                }
            }
        };
        Ok(Arc::new(Held { keyed, lead }))
    }

    fn lead(&self, tenant: TenantId, key: &str) -> Result<Lead, watch::Receiver<Stage>> {
        let mut tenants = self.lock();
        let keys = &mut tenants.entry(tenant).or_default().keys;
        if let Some(first) = keys.get(key) {
            return Err(first.clone());
        }
        let (stage, looks) = watch::channel(Stage::Looking);
        keys.insert(key.to_owned(), looks);
        Ok(Lead {
            in_flight: self.clone(),
            tenant,
            key: key.to_owned(),
            stage,
        })
    }

    fn leave(&self, tenant: TenantId, what: impl FnOnce(&mut Tally)) {
        let mut tenants = self.lock();
        if let Some(tally) = tenants.get_mut(&tenant) {
            what(tally);
            if tally.requests == 0 && tally.keys.is_empty() {
                tenants.remove(&tenant);
            }
        }
    }

    // Nothing that is done under the lock can leave a tally half changed.
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Tally>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The key with its request.
    pub(crate) fn keyed(&self) -> &Keyed {
        &self.keyed
    }

    /// Tells who waits for this key how far its request is.
    pub(crate) fn is(&self, stage: Stage) {
        if let Some(lead) = &self.lead {
            lead.stage.send_replace(stage);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_flight
            .leave(self.tenant, |tally| tally.requests -= 1);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.in_flight.leave(self.tenant, |tally| {
            tally.keys.remove(&self.key);
        });
    }
}

/// 409: another request with this key has not ended.
pub(super) fn in_use() -> ApiError {
    ApiError::new(
        Code::IdempotencyKeyInUse,
        "another request with this `Idempotency-Key` is still running; try again",
    )
}
