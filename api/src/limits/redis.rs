//! Limits that all API processes share, in Redis.
//!
//! | key | holds |
//! |---|---|
//! | `relaypost:limit:tenant:{tenant}`, `…:key:{key}` | the arrival time, see `claim.lua` |
//! | `relaypost:limit:sign-in:{address}`, `…:invalid-key:{address}` | the same |
//!
//! Keys go by themselves when their limit is unused again, an address after its burst's time at the latest. Addresses
//! stand there as they are: there are so few of them that a hash would hide nothing, and whoever looks for the one that
//! floods the service finds it. The script makes up no names of keys, but its keys lie together: it has to be one server.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, RedisError, Script, aio::MultiplexedConnection};
use relaypost_shared::settings::LimitsRedis;
use tokio::sync::Mutex;

use super::{Claim, gcra::Level};

const PREFIX: &str = "relaypost:limit:";
/// How long the server is left alone after a failure (ms), so that not every request waits for it in vain.
const REST: i64 = 1_000;
/// How often the log says that it fails at most (ms).
const TELL_EVERY: i64 = 10_000;

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));

/// The limits in Redis. All requests share a connection, on which they do not wait for each other.
pub(super) struct Shared {
    client: Client,
    /// None until it is first used, and after every failure: the next one to ask makes it anew, and sees at once whether
    /// the server is back.
    connection: Mutex<Option<MultiplexedConnection>>,
    timeout: Duration,
    /// Until when the server is left alone (ms since 1970); 0: it answers.
    rest_until: AtomicI64,
    /// When the log last said that it fails (ms since 1970).
    told_at: AtomicI64,
    /// Requests since then that went without it.
    without: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// Connects when it is first used.
    pub(super) fn new(server: &LimitsRedis, timeout: Duration) -> Self {
        Self {
            client: server.client().clone(),
            connection: Mutex::new(None),
            timeout,
            rest_until: AtomicI64::new(0),
            told_at: AtomicI64::new(0),
            without: AtomicU64::new(0),
        }
    }

    /// Takes from every limit, or from none of them when one is used up, in one call. None: the server does not answer,
    /// or did not a moment ago. `now` is in ms since 1970.
    pub(super) async fn claim(&self, claims: &[Claim], now: i64) -> Option<Vec<Level>> {
        if !self.may_try(now) {
            self.went_without(now, None);
            return None;
        }
        let asked = tokio::time::timeout(self.timeout, self.ask(claims)).await;
        match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(levels) => {
                if self.rest_until.swap(0, Ordering::Relaxed) != 0 {
                    let requests = self.without.swap(0, Ordering::Relaxed);
                    self.told_at.store(0, Ordering::Relaxed);
                    tracing::info!(requests, "Redis answers again: it keeps the rate limits");
                }
                Some(levels)
            }
            Err(error) => {
                *self.connection.lock().await = None;
                self.rest_until.store(now + REST, Ordering::Relaxed);
                self.went_without(now, Some(error));
                None
            }
        }
    }

    /// Whether the server is asked. When it has rested, one request goes ahead and finds out.
    fn may_try(&self, now: i64) -> bool {
        let until = self.rest_until.load(Ordering::Relaxed);
        if until == 0 {
            return true;
        }
        // Farther ahead than it was ever set: the clock was set back.
        let resting = now < until && until - now <= REST;
        let next = now + REST;
        !resting
            && self
                .rest_until
                .compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    async fn ask(&self, claims: &[Claim]) -> Result<Vec<Level>, String> {
        let mut call = CLAIM.prepare_invoke();
        for claim in claims {
            call.key(format!("{PREFIX}{}", claim.key));
            call.arg(claim.pace.step)
                .arg(claim.pace.burst)
                .arg(claim.cost)
                .arg(claim.paid);
        }
        let mut connection = self.connected().await.map_err(|error| error.to_string())?;
        let numbers: Vec<u64> = call
            .invoke_async(&mut connection)
            .await
            .map_err(|error: RedisError| error.to_string())?;
        let (levels, _) = numbers.as_chunks();
        if levels.len() != claims.len() {
            return Err("an answer that was not asked for".to_owned());
        }
        let levels = levels.iter();
        Ok(levels.map(|&[ahead, wait]| Level { ahead, wait }).collect())
    }

    async fn connected(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        Ok(connection.insert(made.await?).clone())
    }

    fn went_without(&self, now: i64, error: Option<String>) {
        self.without.fetch_add(1, Ordering::Relaxed);
        let told = self.told_at.load(Ordering::Relaxed);
        let silent = told != 0 && (0..TELL_EVERY).contains(&(now - told));
        if silent
            || self
                .told_at
                .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let requests = self.without.swap(0, Ordering::Relaxed);
        let error = error.unwrap_or_else(|| "it is left alone for a second".to_owned());
        tracing::warn!(requests, error, "Redis does not keep the rate limits");
    }
}
