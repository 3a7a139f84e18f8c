//! Requests with a key that are under way in this process: how many a tenant has, and which keys they use.
//!
//! This tells a second request at once that the first is still running. On SQLite, which has one process, it is all that
//! does; between processes on PostgreSQL the locks of the store do the same. Neither is what makes a key good for one thing:
//! that is the row with the answer, in the transaction of the work. So nothing here has to survive a crash, and nothing can
//! stay stuck: the registry dies with the process, and every entry goes with the work that it stands for.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use relaypost_shared::ids::TenantId;

use super::Keyed;
use crate::http::{ApiError, Code};

/// The requests that this process has under way. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct InFlight {
    tenants: Arc<Mutex<HashMap<TenantId, Tally>>>,
    max: usize,
}

/// The requests of one tenant.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    /// The keys that are in use.
    keys: HashSet<String>,
}

/// A request's place among those that its tenant may have in flight. Dropping it gives the place back, also when the
/// client has gone away and the request is cut off.
#[derive(Debug)]
pub(crate) struct Place {
    in_flight: InFlight,
    tenant: TenantId,
}

/// A key that a request, or the work that it has handed in, has to itself in this process as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    in_flight: InFlight,
    tenant: TenantId,
    keyed: Keyed,
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

    /// Takes a key for the time of its work. Nothing when another request has it; what is remembered for the key, if
    /// anything, then is in the database.
    pub(crate) fn hold(&self, tenant: TenantId, keyed: &Keyed) -> Option<Arc<Held>> {
        let mut tenants = self.lock();
        let keys = &mut tenants.entry(tenant).or_default().keys;
        if !keys.insert(keyed.key.clone()) {
            return None;
        }
        Some(Arc::new(Held {
            in_flight: self.clone(),
            tenant,
            keyed: keyed.clone(),
        }))
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
}

impl Drop for Place {
    fn drop(&mut self) {
        self.in_flight
            .leave(self.tenant, |tally| tally.requests -= 1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.leave(self.tenant, |tally| {
            tally.keys.remove(&self.keyed.key);
        });
    }
}

/// 409: another request with this key has not ended.
pub(crate) fn in_use() -> ApiError {
    ApiError::new(
        Code::IdempotencyKeyInUse,
        "another request with this `Idempotency-Key` is still running; try again",
    )
}

#[cfg(test)]
mod tests {
    use relaypost_shared::clock::Clock;

    use super::{super::IdempotencyKey, *};

    fn tenant() -> TenantId {
        TenantId::generate(Clock::system().now())
    }

    fn keyed(key: &str) -> Keyed {
        let key = IdempotencyKey(Some(key.to_owned()));
        key.of("POST /v1/messages", b"{}").unwrap()
    }

    #[test]
    fn a_key_has_one_holder_in_its_tenant_and_is_free_once_that_one_is_gone() {
        let (all, tenant, other) = (InFlight::new(9), tenant(), tenant());
        let first = all.hold(tenant, &keyed("k")).unwrap();
        assert!(all.hold(tenant, &keyed("k")).is_none());
        assert!(all.hold(tenant, &keyed("other")).is_some());
        assert!(all.hold(other, &keyed("k")).is_some());
        // The work that was handed in goes on after its request was cut off.
        let work = first.clone();
        drop(first);
        assert!(all.hold(tenant, &keyed("k")).is_none());
        drop(work);
        assert!(all.hold(tenant, &keyed("k")).is_some());
        assert!(all.lock().is_empty());
    }

    #[test]
    fn a_place_is_one_of_its_tenant_s_and_comes_back_when_it_is_dropped() {
        let (all, one, other) = (InFlight::new(2), tenant(), tenant());
        let places = [all.place(one).unwrap(), all.place(one).unwrap()];
        let refused = all.place(one).expect_err("a refusal");
        assert_eq!(refused.code, Code::TooManyInFlight);
        assert!(all.place(other).is_ok());
        drop(places);
        assert!(all.place(one).is_ok());
        assert!(all.lock().is_empty());
    }
}
