//! How often callers may come: per tenant and per key, and per client address where nobody has shown a valid key yet.
//!
//! The outermost layer gives every request a [`Meter`]; `Authorized` and the operations that ask for no key count with
//! it, before the body is read and before anything dear is computed. A request is counted against all of its limits in
//! one step or, when one of them is used up, against none. Where the limits are kept: in Redis for all processes, or in
//! this one.
//!
//! A valid key is never held up because of invalid ones from the same address. Nobody guesses 256 random bits, however
//! often, so that the limit is there for the load and the noise; and were it otherwise, a stranger could stop a
//! tenant's publishing from behind the same proxy. Passwords can be guessed: signing in is counted before it is looked
//! at.

mod gcra;
mod limiter;
mod memory;
mod public;
mod redis;

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use poem::{Request, http::HeaderMap};
use relaypost_shared::ids::TenantId;

use self::limiter::{Claim, Inner, Kind, Verdict, network};
use crate::http::{ApiError, Code};

pub(crate) use limiter::{LIMIT_HEADER, Limiter, POLICY_HEADER};
pub(crate) use public::limit_public;

/// Counts one request. Clones count the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Option<Arc<Counted>>);

#[derive(Debug)]
struct Counted {
    limits: Arc<Inner>,
    client: IpAddr,
    /// What was found last, for the headers of the answer.
    verdict: Mutex<Option<Verdict>>,
}

impl Meter {
    fn new(limits: Option<Arc<Inner>>, client: IpAddr) -> Self {
        Self(limits.map(|limits| {
            Arc::new(Counted {
                limits,
                client,
                verdict: Mutex::new(None),
            })
        }))
    }

    /// That of the request at hand.
    pub(crate) fn of(request: &Request) -> Self {
        request.data::<Self>().cloned().unwrap_or_default()
    }

    /// Counts a request with a valid key, for the key and for its tenant; what the platform's key does counts for no
    /// tenant. `caller` names the key.
    ///
    /// # Errors
    /// 429 when a limit is used up; 503 when the limits cannot be looked up and the settings want that.
    pub(crate) async fn caller(
        &self,
        tenant: Option<TenantId>,
        caller: impl fmt::Display,
    ) -> Result<(), ApiError> {
        let Some(counted) = &self.0 else {
            return Ok(());
        };
        let tenant = tenant.map(|tenant| counted.limits.claim_of(Kind::Tenant, tenant));
        let key = counted.limits.claim_of(Kind::Key, caller);
        counted
            .claim(tenant.into_iter().chain([key]).collect())
            .await
    }

    /// Counts a request to sign in, before it is looked at.
    ///
    /// # Errors
    /// As [`Meter::caller`].
    pub(crate) async fn sign_in(&self) -> Result<(), ApiError> {
        self.address(Kind::SignIn).await
    }

    /// Counts a request whose key was not valid, and returns what it is answered with: 401 as found, or 429.
    pub(crate) async fn unauthorized(&self, error: ApiError) -> ApiError {
        if error.code != Code::Unauthorized {
            return error;
        }
        match self.address(Kind::InvalidKey).await {
            Ok(()) => error,
            Err(limited) => limited,
        }
    }

    /// Counts a batch as that many requests, where its request was counted as one; a batch that is larger than a burst
    /// takes the whole burst. A batch that is refused counts for nothing.
    ///
    /// # Errors
    /// As [`Meter::caller`].
    pub(crate) async fn items(&self, items: usize) -> Result<(), ApiError> {
        let Some(counted) = &self.0 else {
            return Ok(());
        };
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        let Some(before) = counted.verdict().take() else {
            return Ok(());
        };
        let claims = before.claims.into_iter().map(|claim| Claim {
            cost: items.min(claim.pace.burst),
            paid: claim.cost,
            ..claim
        });
        counted.claim(claims.collect()).await
    }

    /// Tells the client where its limits stand.
    pub(crate) fn describe(&self, headers: &mut HeaderMap) {
        if let Some(counted) = &self.0
            && let Some(verdict) = &*counted.verdict()
        {
            verdict.describe(headers);
        }
    }

    async fn address(&self, kind: Kind) -> Result<(), ApiError> {
        let Some(counted) = &self.0 else {
            return Ok(());
        };
        let claim = counted.limits.claim_of(kind, network(counted.client));
        counted.claim(vec![claim]).await
    }
}

impl Counted {
    async fn claim(&self, claims: Vec<Claim>) -> Result<(), ApiError> {
        let verdict = self.limits.claim(claims).await?;
        let checked = verdict.check();
        *self.verdict() = Some(verdict);
        checked
    }

    fn verdict(&self) -> std::sync::MutexGuard<'_, Option<Verdict>> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
