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
    pub(crate) async fn hold(&self, tenant: TenantId, keyed: Keyed) -> Result<Arc<Held>, ApiError> {
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

#[cfg(test)]
mod tests {
    use std::future::Future;

    use futures::{FutureExt as _, pin_mut};
    use relaypost_shared::clock::Clock;

    use super::{super::IdempotencyKey, *};

    fn tenant() -> TenantId {
        TenantId::generate(Clock::system().now())
    }

    fn keyed(key: &str) -> Keyed {
        let key = IdempotencyKey(Some(key.to_owned()));
        key.of("POST /v1/messages", b"{}").unwrap()
    }

    fn code<T>(result: Option<Result<T, ApiError>>) -> Code {
        let error = result.expect("an answer").err();
        error.expect("a refusal").code
    }

    /// What a future comes to without waiting.
    fn now<F: Future>(future: F) -> Option<F::Output> {
        future.now_or_never()
    }

    #[test]
    fn a_second_request_waits_no_longer_than_until_the_first_begins_to_work() {
        let (all, tenant) = (InFlight::new(9), tenant());
        let first = now(all.hold(tenant, keyed("k"))).unwrap().unwrap();
        let second = all.hold(tenant, keyed("k"));
        pin_mut!(second);
        assert!(now(second.as_mut()).is_none(), "the first has not looked");
        assert!(now(all.hold(tenant, keyed("other"))).unwrap().is_ok());
        first.is(Stage::Works);
        assert_eq!(code(now(second)), Code::IdempotencyKeyInUse);
        assert_eq!(
            code(now(all.hold(tenant, keyed("k")))),
            Code::IdempotencyKeyInUse
        );
        drop(first);
        assert!(now(all.hold(tenant, keyed("k"))).unwrap().is_ok());
        assert!(all.lock().is_empty());
    }

    #[test]
    fn an_answer_that_is_remembered_is_repeated_to_many_at_once() {
        let (all, tenant) = (InFlight::new(9), tenant());
        let first = now(all.hold(tenant, keyed("k"))).unwrap().unwrap();
        first.is(Stage::Idle);
        let second = now(all.hold(tenant, keyed("k"))).unwrap().unwrap();
        // It did not take the key, and so does not give it up.
        drop(second);
        first.is(Stage::Works);
        assert_eq!(
            code(now(all.hold(tenant, keyed("k")))),
            Code::IdempotencyKeyInUse
        );
    }

    #[test]
    fn a_first_request_that_fails_leaves_nobody_waiting_and_no_key_stuck() {
        let (all, tenant) = (InFlight::new(9), tenant());
        let first = now(all.hold(tenant, keyed("k"))).unwrap().unwrap();
        let second = all.hold(tenant, keyed("k"));
        pin_mut!(second);
        assert!(now(second.as_mut()).is_none());
        drop(first);
        assert_eq!(code(now(second)), Code::IdempotencyKeyInUse);
        assert!(now(all.hold(tenant, keyed("k"))).unwrap().is_ok());
    }

    #[test]
    fn a_place_is_one_of_its_tenant_s_and_comes_back_when_it_is_dropped() {
        let (all, one, other) = (InFlight::new(2), tenant(), tenant());
        let places = [all.place(one).unwrap(), all.place(one).unwrap()];
        assert_eq!(code(Some(all.place(one))), Code::TooManyInFlight);
        assert!(all.place(other).is_ok());
        drop(places);
        assert!(all.place(one).is_ok());
        assert!(all.lock().is_empty());
    }
}
