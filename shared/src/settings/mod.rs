//! Every setting of every process, read once, from the environment (and a `.env` file in development), before anything
//! starts.

mod auth;
mod oauth;
mod provider;
mod reader;
mod values;
mod web_url;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

pub use auth::{Argon2, Auth, JwtSecret, JwtSecrets, PublicUrl};
pub use oauth::{ClientSecret, Github, OAuth, OAuthClient, OidcProvider};
pub use provider::{MailProvider, SmtpTls};
pub use reader::Invalid;
pub use values::{AppEnv, DatabaseUrl, Networks, RedisUrl, RetrySchedule, Secret};
pub use web_url::WebUrl;

use crate::secrets::Keyring;
use reader::Reader;
use values::{Address, List, Text, Whole};

/// The settings of one process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Development or production.
    pub env: AppEnv,
    /// Where the API listens.
    pub bind_addr: SocketAddr,
    /// Where a worker serves its probes.
    pub worker_bind_addr: SocketAddr,
    /// Which log lines are written.
    pub log: String,
    /// The database.
    pub database_url: DatabaseUrl,
    /// How many connections a process opens to PostgreSQL.
    pub database_connections: u32,
    /// The queue; none: in this process.
    pub redis_url: Option<RedisUrl>,
    /// A key of platform scope for the first set-up.
    pub root_api_key: Option<Secret>,
    /// The keys of secrets at rest.
    pub keyring: Keyring,
    /// How people sign in.
    pub auth: Auth,
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
    /// How long an idempotency key is remembered.
    pub idempotency_ttl: Duration,
    /// How webhooks go out.
    pub webhooks: Webhooks,
    /// How mails go out.
    pub emails: Emails,
    /// When a circuit opens and closes again, for endpoints and mail providers alike.
    pub circuit: Circuit,
    /// From how many dead letters on a tenant's operators are told.
    pub dlq_threshold: u32,
    /// How many replayed deliveries, of either kind, one worker has in flight at a time.
    pub bulk_concurrency: usize,
    /// How long a process that was told to stop may finish what it is doing.
    pub shutdown_grace: Duration,
    /// Whether `/health/ready` fails when Redis is gone.
    pub readiness_requires_redis: bool,
    /// Signing in through other providers.
    pub oauth: OAuth,
}

/// How webhooks go out.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// Private networks that webhooks may reach all the same.
    pub allow_cidrs: Networks,
    /// Whether plain `http://` endpoints are taken.
    pub allow_http: bool,
    /// How many deliveries one worker has in flight at a time.
    pub concurrency: usize,
    /// How many are under way to one endpoint at a time, over all workers, unless the endpoint says otherwise.
    pub max_in_flight: u32,
    /// How long an attempt may take, unless the endpoint says otherwise.
    pub timeout: Duration,
    /// How long making the connection may take.
    pub connect_timeout: Duration,
    /// The waits between attempts, unless the endpoint says otherwise.
    pub retry_schedule: RetrySchedule,
}

/// When a circuit opens and closes again.
#[derive(Clone, Copy, Debug)]
pub struct Circuit {
    /// How many attempts in a row have to fail.
    pub failure_threshold: u32,
    /// How long it stays open the first time. The time doubles each time that a probe fails.
    pub open: Duration,
    /// How long it stays open at most.
    pub open_at_most: Duration,
    /// How many probes go through it when it is half-open.
    pub probes: u32,
    /// How long everything has to fail before an endpoint is disabled.
    pub disable_after: Duration,
}

/// How mails go out.
#[derive(Clone, Debug)]
pub struct Emails {
    /// Where mails are handed to; the first that works is used.
    pub providers: Vec<MailProvider>,
    /// The sender of a mail that names none.
    pub default_from: String,
    /// How many mails one worker has in flight at a time.
    pub concurrency: usize,
}

impl Settings {
    /// Reads the environment of this process; in development a `.env` file in the current folder fills what is unset.
    ///
    /// # Errors
    /// [`Invalid`] lists everything that is wrong at once.
    pub fn from_env() -> Result<Self, Invalid> {
        let mut env: HashMap<_, _> = std::env::vars().collect();
        if env.get("APP_ENV").is_none_or(|name| name != "production") {
            for line in dotenvy::dotenv_iter().into_iter().flatten() {
                let (name, value) =
                    line.map_err(|error| Invalid(vec![format!(".env: {error}")]))?;
                env.entry(name).or_insert(value);
            }
        }
        Self::from_map(env)
    }

    /// Reads the environment for a `main`: what is wrong is printed, and the process ends with code 2.
    pub fn from_env_or_exit() -> Self {
        Self::from_env().unwrap_or_else(|invalid| {
            eprintln!("{invalid}");
            std::process::exit(2)
        })
    }

    /// Reads settings from the given variables alone.
    ///
    /// # Errors
    /// [`Invalid`] lists everything that is wrong at once.
    pub fn from_map(env: HashMap<String, String>) -> Result<Self, Invalid> {
        let mut reader = Reader::new(env);
        let settings = Self::read(&mut reader);
        reader.finish(settings)
    }

    /// `docs/configuration.md`.
    pub fn documentation() -> String {
        let mut reader = Reader::new(HashMap::new());
        Self::read(&mut reader);
        format!(
            "# Configuration\n\n\
             Every setting is an environment variable. In development a `.env` file in the current folder fills what is \
             not set.\nA value that is wrong or missing is named before anything starts, and the process exits with code \
             2.\n\n<!-- Generated from `shared/src/settings` by `make docs`. -->\n\n{}",
            reader::table(&reader.into_described())
        )
    }

    fn read(from: &mut Reader) -> Self {
        let env: AppEnv = from.or("APP_ENV", "development", "`development` or `production`. Development allows webhooks to this machine and plain http, and logs for people.");
        let keyring: Keyring = from.optional("ENCRYPTION_KEYS", "The keys of secrets at rest, newest first, with commas between them: each 64 hexadecimal digits, for example the output of `openssl rand -hex 32`. Without it development uses a key that everybody knows.").unwrap_or_default();
        let settings = Self {
            env,
            bind_addr: from.or::<Address>("BIND_ADDR", "127.0.0.1:3000", "Where the API listens. In a container: `0.0.0.0:3000`.").0,
            worker_bind_addr: from.or::<Address>("WORKER_BIND_ADDR", "127.0.0.1:3001", "Where a worker serves its probes. Port 0 takes a free one, for several workers on one machine.").0,
            log: from.or::<Text>("LOG", "info", "Which log lines are written, in the syntax of `tracing-subscriber`: `info,relaypost_worker=debug`.").0,
            database_url: from.or("DATABASE_URL", "sqlite://data/relaypost.db", "`postgres://user:password@host/name` or `sqlite://file`. SQLite is for one process."),
            database_connections: from.or::<Whole<1, 500>>("DATABASE_CONNECTIONS", "10", "How many connections one process opens to PostgreSQL, 1 to 500.").into(),
            redis_url: from.optional("REDIS_URL", "`redis://host:port/`: the queue between the API and the workers. Without it the queue lives in the process, which only `relaypost` can use."),
            root_api_key: from.optional("ROOT_API_KEY", "A key of platform scope, to create the first tenants with; at least 24 characters. Without it a fresh development instance makes one and prints it once."),
            auth: Auth::read(from, env, &keyring),
            keyring,
            max_body_bytes: from.or::<Whole<1024, 104_857_600>>("MAX_BODY_BYTES", "1048576", "The largest request body that is read, in bytes.").into(),
            idempotency_ttl: from.or::<Whole<60, 2_592_000>>("IDEMPOTENCY_TTL", "86400", "How long an `Idempotency-Key` is remembered, in seconds.").seconds(),
            webhooks: Webhooks::read(from, env),
            emails: Emails::read(from),
            circuit: Circuit::read(from),
            dlq_threshold: from.or::<Whole<1, 1_000_000>>("DLQ_THRESHOLD", "50", "From how many dead letters on the event `dlq.threshold` goes out, once until they are fewer than half of it.").into(),
            bulk_concurrency: from.or::<Whole<1, 100_000>>("BULK_CONCURRENCY", "64", "How many replayed deliveries, webhooks and mails together, one worker has in flight at a time, besides the live ones.").into(),
            shutdown_grace: from.or::<Whole<0, 3600>>("SHUTDOWN_GRACE_SECONDS", "30", "How long a process that was told to stop may finish what it is doing.").seconds(),
            readiness_requires_redis: from.or("READINESS_REQUIRES_REDIS", "false", "Whether `/health/ready` answers 503 when Redis is gone. The API accepts without Redis, so the default is no."),
            oauth: OAuth::read(from, env),
        };
        if settings.env == AppEnv::Production
            && settings.database_url.is_sqlite()
            && settings.redis_url.is_some()
        {
            from.refuse(
                "DATABASE_URL",
                "expected postgres://… beside REDIS_URL: SQLite cannot be shared between machines",
            );
        }
        settings
    }
}

impl Webhooks {
    fn read(from: &mut Reader, env: AppEnv) -> Self {
        let mut allow_cidrs: Networks = from.or("WEBHOOK_ALLOW_CIDRS", "", "Networks that webhooks may reach although they are private: `10.1.0.0/16,fd00::/8`. In development this machine itself is allowed too.");
        if env == AppEnv::Development {
            allow_cidrs.allow_loopback();
        }
        let allow_http: bool = from.or("WEBHOOK_ALLOW_HTTP", "false", "Whether plain `http://` endpoints are taken in production. In development they always are.");
        Self {
            allow_cidrs,
            allow_http: allow_http || env == AppEnv::Development,
            concurrency: from.or::<Whole<1, 100_000>>("WEBHOOK_CONCURRENCY", "512", "How many webhooks one worker has in flight at a time.").into(),
            max_in_flight: from.or::<Whole<1, 100_000>>("WEBHOOK_MAX_IN_FLIGHT", "256", "How many webhooks are under way to one endpoint at a time, over all workers, unless the endpoint says otherwise. What waits for such a place takes none of a worker's.").into(),
            timeout: from.or::<Whole<100, 300_000>>("WEBHOOK_TIMEOUT_MS", "15000", "How long an attempt may take, in milliseconds, unless the endpoint says otherwise.").millis(),
            connect_timeout: from.or::<Whole<50, 60_000>>("WEBHOOK_CONNECT_TIMEOUT_MS", "5000", "How long making the connection may take, in milliseconds.").millis(),
            retry_schedule: from.or("RETRY_SCHEDULE", "5,30,120,600,1800,7200,18000,36000", "Seconds before each retry, varied by up to 20 %, unless the endpoint says otherwise. Emails follow it too."),
        }
    }
}

impl Circuit {
    fn read(from: &mut Reader) -> Self {
        Self {
            failure_threshold: from.or::<Whole<1, 100_000>>("CIRCUIT_FAILURE_THRESHOLD", "10", "How many attempts in a row fail before the circuit of an endpoint, or of a mail provider, opens.").into(),
            open: from.or::<Whole<1, 86_400>>("CIRCUIT_OPEN_SECONDS", "30", "How long a circuit stays open before probes go through. The time doubles with each probe that fails.").seconds(),
            open_at_most: from.or::<Whole<1, 86_400>>("CIRCUIT_OPEN_MAX_SECONDS", "900", "How long a circuit stays open at most before probes go through.").seconds(),
            probes: from.or::<Whole<1, 100>>("CIRCUIT_PROBES", "3", "How many probes go through a half-open circuit; when all have succeeded it closes.").into(),
            disable_after: from.or::<Whole<60, 31_536_000>>("ENDPOINT_DISABLE_AFTER_SECONDS", "432000", "How long every attempt to an endpoint fails before it is disabled.").seconds(),
        }
    }
}

impl Emails {
    fn read(from: &mut Reader) -> Self {
        let providers: List<MailProvider> = from.or("EMAIL_PROVIDERS", "file://data/mail", "Where mails are handed to, the first that works: `smtp://user:password@host:587?tls=starttls` (`tls`: `required`, `starttls`, `none`) or `file://folder`, which keeps each mail as an `.eml` file.");
        Self {
            providers: providers.0,
            default_from: from
                .or::<Text>(
                    "EMAIL_DEFAULT_FROM",
                    "Relaypost <relaypost@localhost>",
                    "The sender of a mail that names none.",
                )
                .0,
            concurrency: from
                .or::<Whole<1, 10_000>>(
                    "EMAIL_CONCURRENCY",
                    "32",
                    "How many mails one worker has in flight at a time.",
                )
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Invalid> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_map(owned.collect())
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.bind_addr.port(), 3000);
        assert_eq!(settings.webhooks.retry_schedule.0.len(), 8);
        assert_eq!(settings.webhooks.timeout, Duration::from_secs(15));
        assert!(settings.database_url.is_sqlite());
        assert!(matches!(
            settings.emails.providers[..],
            [MailProvider::Folder(_)]
        ));
    }

    #[test]
    fn every_wrong_setting_is_named_at_once_and_no_value_is_repeated() {
        let Invalid(problems) = read(&[
            ("BIND_ADDR", "everywhere"),
            ("DATABASE_URL", "mysql://secret@host/db"),
            ("WEBHOOK_CONCURRENCY", "0"),
            ("ROOT_API_KEY", "short"),
            ("EMAIL_PROVIDERS", "pigeon://secret"),
        ])
        .unwrap_err();
        let text = problems.join("\n");
        for name in [
            "BIND_ADDR",
            "DATABASE_URL",
            "WEBHOOK_CONCURRENCY",
            "ROOT_API_KEY",
            "EMAIL_PROVIDERS",
        ] {
            assert!(text.contains(name), "{name} is not named in:\n{text}");
        }
        assert_eq!(problems.len(), 5);
        assert!(!text.contains("secret") && !text.contains("short"));
    }

    #[test]
    fn webhooks_to_this_machine_are_for_development() {
        assert!(read(&[]).unwrap().webhooks.allow_http);
        let production = read(&[
            ("APP_ENV", "production"),
            ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ])
        .unwrap();
        assert!(!production.webhooks.allow_http);
        assert!(production.webhooks.allow_cidrs.0.is_empty());
    }
}
