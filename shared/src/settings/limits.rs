//! How often callers may come.

use std::{fmt, str::FromStr, time::Duration};

use super::{AppEnv, reader::Reader, values::Whole};

/// How often callers of the API may come. [`Limits::enabled`] says whether that is looked at.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whether there are limits.
    pub enabled: bool,
    /// The Redis server that keeps them for all API processes; none: each process keeps its own.
    pub redis: Option<LimitsRedis>,
    /// How long a request waits for that server.
    pub redis_timeout: Duration,
    /// What holds while that server does not answer.
    pub on_redis_failure: OnRedisFailure,
    /// For what is asked with the keys of one tenant, together.
    pub per_tenant: Quota,
    /// For what is asked with one key.
    pub per_key: Quota,
    /// For signing in from one address.
    pub sign_in: Quota,
    /// For requests without a valid key from one address.
    pub invalid_key: Quota,
}

/// So many in a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many on the average.
    pub count: u32,
    /// In this time.
    pub per: Duration,
    /// How many at once after a rest.
    pub burst: u32,
}

/// What holds while the Redis server of the limits does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRedisFailure {
    /// Each process keeps the limits by itself.
    #[default]
    Allow,
    /// Requests that have a limit are refused.
    Refuse,
}

/// The Redis server of the limits, whose address may hold a password.
#[derive(Clone)]
pub struct LimitsRedis(redis::Client);

impl LimitsRedis {
    /// A client of it, not connected.
    pub fn client(&self) -> &redis::Client {
        &self.0
    }
}

impl fmt::Debug for LimitsRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis://…")
    }
}

impl FromStr for LimitsRedis {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        redis::Client::open(text)
            .map(Self)
            .map_err(|_| "expected redis://host:port/")
    }
}

impl FromStr for OnRedisFailure {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "allow" => Ok(Self::Allow),
            "refuse" => Ok(Self::Refuse),
            _ => Err("expected allow or refuse"),
        }
    }
}

impl Limits {
    pub(super) fn read(from: &mut Reader, env: AppEnv) -> Self {
        let enabled = from.optional("RATE_LIMIT_ENABLED", "`true` or `false`: whether the API limits how often callers come. Without it: in production yes, in development no.");
        from.example("RATE_LIMIT_ENABLED", "true");
        let redis = from.optional("RATE_LIMIT_REDIS_URL", "`redis://host:port/`: the server that keeps the limits for all API processes together; it can be that of `REDIS_URL`. Without it each process keeps limits of its own, so that N of them let N times as much through.");
        from.example("RATE_LIMIT_REDIS_URL", "redis://127.0.0.1:6379/");
        Self {
            enabled: enabled.unwrap_or(env == AppEnv::Production),
            redis,
            redis_timeout: from.or::<Whole<10, 10_000>>("RATE_LIMIT_REDIS_TIMEOUT_MS", "100", "How long a request waits for that server, in milliseconds. After a failure the server is left alone for a second.").millis(),
            on_redis_failure: from.or("RATE_LIMIT_ON_REDIS_FAILURE", "allow", "What holds while that server does not answer. `allow`: each process keeps the limits by itself meanwhile, so that losing it stops neither publishing nor the protection of signing in. `refuse`: 503 for everything that has a limit, for those to whom a limit that holds exactly is worth more than being there."),
            per_tenant: per_second(from, ("RATE_LIMIT_PER_TENANT_PER_SECOND", "2000", "Requests a second with the keys of one tenant, together; each message or email of a batch counts. The default is less than a third of what two cores take in."), ("RATE_LIMIT_PER_TENANT_BURST", "4000", "How many of them at once after a rest.")),
            per_key: per_second(from, ("RATE_LIMIT_PER_KEY_PER_SECOND", "1000", "Requests a second with one key: half of what the tenant has, so that one program gone wrong leaves the rest to the others."), ("RATE_LIMIT_PER_KEY_BURST", "2000", "How many of them at once after a rest.")),
            sign_in: per_minute(from, ("RATE_LIMIT_SIGN_IN_PER_MINUTE", "30", "Requests a minute from one address (IPv6: one /64) to operations that ask for no key: signing in and what belongs to it. Enough for an office behind one address."), ("RATE_LIMIT_SIGN_IN_BURST", "30", "How many of them at once after a rest.")),
            invalid_key: per_minute(from, ("RATE_LIMIT_INVALID_KEY_PER_MINUTE", "60", "Requests a minute without a valid key from one address (IPv6: one /64). Those with one are never held up by it."), ("RATE_LIMIT_INVALID_KEY_BURST", "60", "How many of them at once after a rest.")),
        }
    }
}

/// A variable, its default and what it is for.
type Asked = (&'static str, &'static str, &'static str);

fn per_second(from: &mut Reader, count: Asked, burst: Asked) -> Quota {
    quota(from, Duration::from_secs(1), count, burst)
}

fn per_minute(from: &mut Reader, count: Asked, burst: Asked) -> Quota {
    quota(from, Duration::from_secs(60), count, burst)
}

fn quota(from: &mut Reader, per: Duration, count: Asked, burst: Asked) -> Quota {
    let mut whole = |(name, default, about): Asked| -> u32 {
        from.or::<Whole<1, 1_000_000>>(name, default, about).into()
    };
    Quota {
        count: whole(count),
        per,
        burst: whole(burst),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn read(pairs: &[(&str, &str)]) -> Limits {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_map(owned.collect()).unwrap().limits
    }

    #[test]
    fn limits_are_off_in_development_and_on_in_production_unless_set() {
        let production = |enabled: &str| {
            let mut env = relaypost_testkit::production();
            env.insert("RATE_LIMIT_ENABLED".to_owned(), enabled.to_owned());
            Settings::from_map(env).unwrap().limits.enabled
        };
        assert!(!read(&[]).enabled);
        assert!(production(""));
        assert!(read(&[("RATE_LIMIT_ENABLED", "true")]).enabled);
        assert!(!production("false"));
    }

    #[test]
    fn the_password_of_the_server_is_not_shown_and_a_wrong_address_is_refused() {
        let limits = read(&[("RATE_LIMIT_REDIS_URL", "redis://:hush@host:1/")]);
        assert!(!format!("{limits:?}").contains("hush"));
        for wrong in ["http://host/", "redis://host:port/", "rediss://host/"] {
            let env = [("RATE_LIMIT_REDIS_URL".to_owned(), wrong.to_owned())];
            assert!(Settings::from_map(env.into()).is_err(), "{wrong}");
        }
    }
}
