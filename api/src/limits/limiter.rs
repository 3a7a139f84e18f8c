//! The limits of all requests.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use poem::{
    Request,
    http::{HeaderMap, HeaderName, HeaderValue, header},
};
use relaypost_shared::{
    clock::Clock,
    settings::{Limits, OnRedisFailure, Quota},
};

use super::{
    Meter,
    gcra::{Level, Pace, SECOND},
    memory::Memory,
    redis::Shared,
};
use crate::http::{ApiError, Code, client_address::client_address};

/// The names of the fields stand in draft-ietf-httpapi-ratelimit-headers-10.
pub(crate) const POLICY_HEADER: &str = "RateLimit-Policy";
/// How much of the policies is left.
pub(crate) const LIMIT_HEADER: &str = "RateLimit";
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What there are limits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tenant,
    Key,
    SignIn,
    InvalidKey,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Key => "key",
            Self::SignIn => "sign-in",
            Self::InvalidKey => "invalid-key",
        }
    }
}

/// What a request asks of one limit.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) kind: Kind,
    pub(super) pace: Pace,
    /// Whose limit it is.
    pub(super) key: String,
    /// How many requests it counts as.
    pub(super) cost: u32,
    /// How many of them it has taken before.
    pub(super) paid: u32,
}

/// What came of a request's claims: a level for each.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) claims: Vec<Claim>,
    levels: Vec<Level>,
}

/// The limits. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limiter(pub(super) Option<Arc<Inner>>);

/// Limits that are switched on.
#[derive(Debug)]
pub(super) struct Inner {
    settings: Limits,
    memory: Memory,
    redis: Option<Shared>,
    clock: Clock,
}

impl Limiter {
    /// The limits of these settings. Nothing is connected yet.
    pub(crate) fn new(settings: &Limits, clock: Clock) -> Self {
        if !settings.enabled {
            return Self(None);
        }
        let server = settings.redis.as_ref();
        let shared = server.map(|server| Shared::new(server, settings.redis_timeout));
        Self(Some(Arc::new(Inner {
            settings: settings.clone(),
            memory: Memory::default(),
            redis: shared,
            clock,
        })))
    }

    /// What counts this request.
    pub(crate) fn meter(&self, request: &Request) -> Meter {
        Meter::new(self.0.clone(), client_address(request))
    }
}

impl Inner {
    /// What one request asks of the limit of this kind and of `whose`.
    pub(super) fn claim_of(&self, kind: Kind, whose: impl std::fmt::Display) -> Claim {
        Claim {
            kind,
            pace: Pace::of(self.quota(kind)),
            key: format!("{}:{whose}", kind.name()),
            cost: 1,
            paid: 0,
        }
    }

    fn quota(&self, kind: Kind) -> Quota {
        match kind {
            Kind::Tenant => self.settings.per_tenant,
            Kind::Key => self.settings.per_key,
            Kind::SignIn => self.settings.sign_in,
            Kind::InvalidKey => self.settings.invalid_key,
        }
    }

    /// Takes from every limit, or from none of them when one is used up.
    ///
    /// # Errors
    /// 503 when Redis does not answer and the settings want no limits of this process instead.
    pub(super) async fn claim(&self, claims: Vec<Claim>) -> Result<Verdict, ApiError> {
        let now = self.clock.now().timestamp_millis();
        let shared = match &self.redis {
            Some(redis) => redis.claim(&claims, now).await,
            None => None,
        };
        let levels = match shared {
            Some(levels) => levels,
            None if self.redis.is_some()
                && self.settings.on_redis_failure == OnRedisFailure::Refuse =>
            {
                return Err(ApiError::new(
                    Code::Unavailable,
                    "the rate limits cannot be looked up right now; try again",
                ));
            }
            None => {
                let now = now.max(0).cast_unsigned().saturating_mul(SECOND / 1_000);
                self.memory.claim(&claims, now)
            }
        };
        Ok(Verdict { claims, levels })
    }
}

impl Verdict {
    /// # Errors
    /// 429 when a limit is used up.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        let mut both = self.claims.iter().zip(&self.levels);
        let Some((claim, _)) = both.find(|(_, level)| level.wait > 0) else {
            return Ok(());
        };
        let detail = format!(
            "the limit `{}` is used up; `Retry-After` says when to try again",
            claim.kind.name()
        );
        Err(ApiError::new(Code::RateLimited, detail))
    }

    /// Says in the headers of the answer which limits there are, what is left of them and, when one is used up, how long
    /// to wait.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        let (mut policy, mut limit) = (String::new(), String::new());
        for (claim, level) in self.claims.iter().zip(&self.levels) {
            let comma = if policy.is_empty() { "" } else { ", " };
            let (name, pace) = (claim.kind.name(), claim.pace);
            let (burst, window) = (pace.burst, pace.window());
            let (remaining, whole_in) = (pace.remaining(*level), level.ahead.div_ceil(SECOND));
            // Writing to a text does not fail.
            let _ = write!(policy, "{comma}\"{name}\";q={burst};w={window}");
            let _ = write!(limit, "{comma}\"{name}\";r={remaining};t={whole_in}");
        }
        let wait = self.levels.iter().map(|level| level.wait).max();
        let wait = wait.filter(|wait| *wait > 0);
        let wait = wait.map(|wait| wait.div_ceil(SECOND).to_string());
        let fields = [
            (POLICY, Some(policy)),
            (LIMIT, Some(limit)),
            (header::RETRY_AFTER, wait),
        ];
        for (name, text) in fields {
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

/// Whose limit a client's address counts for: itself, or the /64 network of an IPv6 address, which is what one customer
/// of a provider gets at least and may choose any address of.
pub(super) fn network(client: IpAddr) -> String {
    match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from_bits(network))
        }
    }
}
