//! Every setting of every process, read once, from the environment (and a `.env` file in development), before anything
//! starts.

mod auth;
mod http;
mod idempotency;
mod limits;
mod metrics_guard;
mod oauth;
mod provider;
mod proxies;
mod reader;
mod secret;
mod shown;
mod values;
mod variables;
mod web_url;

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Duration};

pub use auth::{Argon2, Auth, JwtSecret, JwtSecrets};
pub use http::{Http, Origins};
pub use idempotency::Idempotency;
pub use limits::{Limits, LimitsRedis, OnRedisFailure, Quota};
pub use metrics_guard::MetricsGuard;
pub use oauth::{ClientSecret, Github, OAuth, OAuthClient, OidcProvider};
pub use provider::{MailProvider, SmtpTls};
pub use proxies::{ForwardingHeader, Proxies, TrustedProxies};
pub use reader::Invalid;
pub use values::{AppEnv, DatabaseUrl, Networks, RedisUrl, RetrySchedule, Secret};
pub use web_url::WebUrl;

use crate::secrets::Keyring;
use reader::Reader;
use values::{Address, List, LogFilter, Sender, Whole};
use variables::Variables;

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
    /// How long a statement on PostgreSQL may take, the wait for a connection included.
    pub database_timeout: Duration,
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
    /// How requests with an `Idempotency-Key` are treated.
    pub idempotency: Idempotency,
    /// How HTTP requests are taken.
    pub http: Http,
    /// How webhooks go out.
    pub webhooks: Webhooks,
    /// How mails go out.
    pub emails: Emails,
    /// When a circuit opens and closes again, for endpoints and mail providers alike.
    pub circuit: Circuit,
    /// The proxies in front of the API.
    pub proxies: Proxies,
    /// How often callers of the API may come.
    pub limits: Limits,
    /// From how many dead letters on a tenant's operators are told.
    pub dlq_threshold: u32,
    /// How many replayed deliveries, of either kind, one worker has in flight at a time.
    pub bulk_concurrency: usize,
    /// How long a process that was told to stop may finish what it is doing.
    pub shutdown_grace: Duration,
    /// How long a process that was told to stop still serves, not ready, before it closes its port.
    pub shutdown_delay: Duration,
    /// Whether `/health/ready` of the API fails when Redis cannot be used.
    pub readiness_requires_redis: bool,
    /// The key for `/health/detailed`.
    pub health_key: Option<Secret>,
    /// Who may read figures for machines: `/v1/scaling`.
    pub metrics_guard: MetricsGuard,
    /// Whether the API and workers apply pending migrations when they start.
    pub migrate_on_start: bool,
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

/// The programs that have settings. They share them all; some cannot do without one that others can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `relaypost`: everything in one process.
    Standalone,
    /// `relaypost-api`.
    Api,
    /// `relaypost-worker`.
    Worker,
    /// `relaypost-migrate`.
    Migrate,
}

/// What came of reading the settings.
#[derive(Debug)]
pub struct Checked {
    /// The settings, or everything that is wrong with them.
    pub settings: Result<Settings, Invalid>,
    /// Variables that look like settings and are none.
    pub warnings: Vec<String>,
    /// Every setting as `NAME=value  # source`, a line each; of secrets and addresses only what anybody may see.
    pub listing: String,
}

impl Checked {
    /// What the settings of `variables` come to for `program`.
    fn of(variables: Variables, program: Program) -> Self {
        let mut reader = Reader::new(variables);
        let settings = Settings::read(&mut reader, program);
        let problems = reader.problems();
        Self {
            settings: if problems.is_empty() {
                Ok(settings)
            } else {
                Err(Invalid(problems))
            },
            warnings: reader.warnings(),
            listing: reader.listing(),
        }
    }

    /// What these variables alone come to for `program`.
    pub fn from_map(env: HashMap<String, String>, program: Program) -> Self {
        Self::of(env.into(), program)
    }

    /// What the environment of this process comes to; in development a `.env` file in the current folder fills what is
    /// unset.
    pub fn from_env(program: Program) -> Self {
        Self::of(
            Variables::of_process(std::env::vars_os(), Path::new(".env")),
            program,
        )
    }

    /// Ends the process with code 2 when something is wrong, after it was printed; else prints the warnings.
    fn or_exit(self) -> (Settings, String) {
        for warning in &self.warnings {
            eprintln!("warning: {warning}");
        }
        match self.settings {
            Ok(settings) => (settings, self.listing),
            Err(invalid) => {
                eprintln!("{invalid}");
                std::process::exit(2)
            }
        }
    }
}

impl Settings {
    /// Reads the environment for a `main`, before anything else: everything that is wrong is printed at once, and the
    /// process ends with code 2.
    pub fn from_env_or_exit(program: Program) -> Self {
        Checked::from_env(program).or_exit().0
    }

    /// [`Settings::from_env_or_exit`] for a command whose output is one line: warnings are left to the process itself.
    pub fn from_env_quietly_or_exit(program: Program) -> Self {
        let mut checked = Checked::from_env(program);
        checked.warnings.clear();
        checked.or_exit().0
    }

    /// `check-config`: prints every setting with where it comes from, without secrets; ends the process with code 2 when
    /// one is wrong.
    pub fn print_or_exit(program: Program) {
        print!("{}", Checked::from_env(program).or_exit().1);
    }

    /// Reads settings from the given variables alone.
    ///
    /// # Errors
    /// [`Invalid`] lists everything that is wrong at once.
    pub fn from_map(env: HashMap<String, String>) -> Result<Self, Invalid> {
        Checked::from_map(env, Program::Standalone).settings
    }

    /// `docs/configuration.md`.
    pub fn documentation() -> String {
        let mut reader = Reader::new(Variables::default());
        Self::read(&mut reader, Program::Standalone);
        format!(
            "# Configuration\n\n\
             Every setting is an environment variable. In development a `.env` file in the current folder fills what is \
             not set.\nEverything that is wrong or missing is named at once, before anything starts, and the process exits \
             with code 2. A variable that\nlooks like a misspelt setting is pointed out. `check-config`, a command of \
             `relaypost`, `relaypost-api` and `relaypost-worker`,\nprints what each setting comes to and where it comes from, \
             without secrets.\n\nA setting that holds a secret may stand in a file instead: `DATABASE_URL_FILE=/run/secrets/database_url` \
             names one whose content is\nthe value, without the newline at its end. Setting both is refused, and so is a file that \
             is empty, is not a regular file or cannot be read.\n\nProduction (`APP_ENV=production`) does not start without what is marked as required, nor \
             with a secret that can be guessed:\none that repeats itself, counts, stands in an example, or is made of words \
             such as `changeme`.\n\n<!-- Generated from `shared/src/settings` by `make docs`. -->\n\n{}",
            reader.table()
        )
    }

    fn read(from: &mut Reader, program: Program) -> Self {
        let env: AppEnv = from.or("APP_ENV", "development", "`development` or `production`. Development allows webhooks to this machine and plain http, and logs for people.");
        from.in_production(env == AppEnv::Production);
        let keyring: Keyring = from.optional("ENCRYPTION_KEYS", "The keys of secrets at rest, newest first, with commas between them: each 64 hexadecimal digits, for example the output of `openssl rand -hex 32`. Without it development uses a key that everybody knows.").unwrap_or_default();
        let settings = Self {
            env,
            bind_addr: from.or::<Address>("BIND_ADDR", "127.0.0.1:3000", "Where the API listens. In a container: `0.0.0.0:3000`.").0,
            worker_bind_addr: from.or::<Address>("WORKER_BIND_ADDR", "127.0.0.1:3001", "Where a worker serves its probes. Port 0 takes a free one, for several workers on one machine.").0,
            log: from.or::<LogFilter>("LOG", "info", "Which log lines are written, in the syntax of `tracing-subscriber`: `info,relaypost_worker=debug`. `info,access=debug` adds a line for each request that went well in less than a second.").0,
            database_url: from.or("DATABASE_URL", "sqlite://data/relaypost.db", "`postgres://user:password@host/name` or `sqlite://file`. SQLite is for one process."),
            database_connections: from.or::<Whole<1, 500>>("DATABASE_CONNECTIONS", "10", "How many connections one process opens to PostgreSQL, 1 to 500; up to six more are for what every delivery goes through, and one is asked every second whether it still leads anywhere. Behind PgBouncer it has to be asked for sessions, and to let the startup parameter `options` through.").into(),
            database_timeout: from.or::<Whole<1_000, 600_000>>("DATABASE_TIMEOUT_MS", "10000", "How long a statement on PostgreSQL may take, in milliseconds, the wait for a connection included. A server that has not answered by then counts as silent: every connection to it is replaced. The server itself ends a statement after two thirds of the time. Migrations have no limit.").millis(),
            redis_url: from.optional("REDIS_URL", "`redis://host:port/`: the queue between the API and the workers. Without it the queue lives in the process, which only `relaypost` can use."),
            root_api_key: from.optional("ROOT_API_KEY", "A key of platform scope, to create the first tenants with; at least 24 characters. Without it a fresh development instance makes one and prints it once."),
            auth: Auth::read(from, env, &keyring),
            keyring,
            max_body_bytes: from.or::<Whole<1024, 104_857_600>>("MAX_BODY_BYTES", "1048576", "The largest request body that is read, in bytes.").into(),
            idempotency: Idempotency::read(from),
            http: Http::read(from),
            webhooks: Webhooks::read(from, env),
            emails: Emails::read(from),
            circuit: Circuit::read(from),
            proxies: Proxies::read(from),
            limits: Limits::read(from, env),
            dlq_threshold: from.or::<Whole<1, 1_000_000>>("DLQ_THRESHOLD", "50", "From how many dead letters on the event `dlq.threshold` goes out, once until they are fewer than half of it.").into(),
            bulk_concurrency: from.or::<Whole<1, 100_000>>("BULK_CONCURRENCY", "64", "How many replayed deliveries, webhooks and mails together, one worker has in flight at a time, besides the live ones.").into(),
            shutdown_grace: from.or::<Whole<0, 3600>>("SHUTDOWN_GRACE_SECONDS", "25", "How long a process that was told to stop may finish what it is doing, in seconds. It begins after `SHUTDOWN_DELAY_SECONDS`.").seconds(),
            shutdown_delay: from.or::<Whole<0, 600>>("SHUTDOWN_DELAY_SECONDS", if env == AppEnv::Production { "2" } else { "0" }, "How long a process that was told to stop still serves, in seconds: `/health/ready` answers 503 at once, and load balancers have this time to notice before the port closes. Production: 2. A second SIGTERM or SIGINT ends the delay.").seconds(),
            readiness_requires_redis: from.or("READINESS_REQUIRES_REDIS", "false", "Whether `/health/ready` of the API answers 503 when Redis is away, full, read-only or without scripts. The API accepts without Redis, so the default is no. A worker is never ready without Redis."),
            health_key: from.optional("HEALTH_KEY", "The key that `/health/detailed` asks for in the header `X-Health-Key`; at least 24 characters. Without it only this machine may ask, and nobody when `TRUST_PROXY` is set."),
            metrics_guard: MetricsGuard::read(from, env),
            migrate_on_start: from.or("MIGRATE_ON_START", "false", "Whether the API and workers apply pending migrations when they start, one process at a time. Otherwise they end with a message and wait for `relaypost-migrate up`. `relaypost` always applies them."),
            oauth: OAuth::read(from, env),
        };
        from.example("REDIS_URL", "redis://127.0.0.1:6379/");
        from.example("ROOT_API_KEY", "$(openssl rand -hex 24)");
        from.example("ENCRYPTION_KEYS", "$(openssl rand -hex 32)");
        // SQLite in a folder of the process is what nothing at all gives; in production somebody has decided.
        from.example("HEALTH_KEY", "$(openssl rand -hex 24)");
        from.example("DATABASE_URL", "postgres://user:password@host/name");
        from.required_in_production("DATABASE_URL");
        from.required_in_production("ENCRYPTION_KEYS");
        from.distinct([
            "ENCRYPTION_KEYS",
            "JWT_SECRET",
            "ROOT_API_KEY",
            "HEALTH_KEY",
            "METRICS_GUARD_SECRET",
        ]);
        settings.refuse_what_does_not_go_together(from, program);
        settings.point_out_what_is_open(from);
        settings
    }

    /// Development keeps nobody out: that has to be seen where it can be reached.
    fn point_out_what_is_open(&self, from: &mut Reader) {
        let open = self.env == AppEnv::Development && !self.bind_addr.ip().is_loopback();
        from.advise(open, "APP_ENV", "development on an address that others may reach: anybody can sign in at `/auth/demo`, and unless ENCRYPTION_KEYS is set secrets are sealed with a key that everybody knows; production is APP_ENV=production");
        let everything = self.env == AppEnv::Production
            && self
                .webhooks
                .allow_cidrs
                .0
                .iter()
                .any(|network| network.prefix_len() == 0);
        from.advise(
            everything,
            "WEBHOOK_ALLOW_CIDRS",
            "allows every address: tenants reach your own network",
        );
    }

    fn refuse_what_does_not_go_together(&self, from: &mut Reader, program: Program) {
        if self.env == AppEnv::Production
            && self.database_url.is_sqlite()
            && self.redis_url.is_some()
        {
            from.refuse(
                "DATABASE_URL",
                "expected postgres://… beside REDIS_URL: SQLite cannot be shared between machines",
            );
        }
        if self.redis_url.is_none()
            && !from.is_wrong("REDIS_URL")
            && [Program::Api, Program::Worker].contains(&program)
        {
            from.refuse(
                "REDIS_URL",
                "missing: API and workers find each other's jobs there; `relaypost`, which is both in one, needs none",
            );
        }
    }
}

impl Webhooks {
    fn read(from: &mut Reader, env: AppEnv) -> Self {
        let mut allow_cidrs: Networks = from.or("WEBHOOK_ALLOW_CIDRS", "", "Networks that webhooks may reach although they are private: `10.1.0.0/16,fd00::/8`. In development this machine itself is allowed too. A metadata address of a cloud has to be named by itself: `169.254.169.254/32`.");
        if env == AppEnv::Development {
            allow_cidrs.allow_loopback();
        }
        from.example("WEBHOOK_ALLOW_CIDRS", "10.1.0.0/16,fd00::/8");
        let allow_http: bool = from.or("WEBHOOK_ALLOW_HTTP", "false", "Whether plain `http://` endpoints are taken in production. In development they always are.");
        let timeout = from.or::<Whole<100, 300_000>>("WEBHOOK_TIMEOUT_MS", "15000", "How long an attempt may take, in milliseconds, unless the endpoint says otherwise.").millis();
        let connect_timeout = from.or::<Whole<50, 60_000>>("WEBHOOK_CONNECT_TIMEOUT_MS", "5000", "How long making the connection may take, in milliseconds: no more than `WEBHOOK_TIMEOUT_MS`, to which the default gives way.").millis();
        Self {
            allow_cidrs,
            allow_http: allow_http || env == AppEnv::Development,
            concurrency: from.or::<Whole<1, 100_000>>("WEBHOOK_CONCURRENCY", "512", "How many webhooks one worker has in flight at a time.").into(),
            max_in_flight: from.or::<Whole<1, 100_000>>("WEBHOOK_MAX_IN_FLIGHT", "256", "How many webhooks are under way to one endpoint at a time, over all workers, unless the endpoint says otherwise. What waits for such a place takes none of a worker's.").into(),
            timeout,
            connect_timeout: from.at_most(("WEBHOOK_CONNECT_TIMEOUT_MS", connect_timeout), ("WEBHOOK_TIMEOUT_MS", timeout)),
            retry_schedule: from.or("RETRY_SCHEDULE", "5,30,120,600,1800,7200,18000,36000", "Seconds before each retry, varied by up to 20 %, unless the endpoint says otherwise. Emails follow it too."),
        }
    }
}

impl Circuit {
    fn read(from: &mut Reader) -> Self {
        let failure_threshold = from.or::<Whole<1, 100_000>>("CIRCUIT_FAILURE_THRESHOLD", "10", "How many attempts in a row fail before the circuit of an endpoint, or of a mail provider, opens.").into();
        let open = from.or::<Whole<1, 86_400>>("CIRCUIT_OPEN_SECONDS", "30", "How long a circuit stays open before probes go through: no more than `CIRCUIT_OPEN_MAX_SECONDS`, to which the default gives way. The time doubles with each probe that fails.").seconds();
        let open_at_most = from
            .or::<Whole<1, 86_400>>(
                "CIRCUIT_OPEN_MAX_SECONDS",
                "900",
                "How long a circuit stays open at most before probes go through.",
            )
            .seconds();
        Self {
            failure_threshold,
            open: from.at_most(("CIRCUIT_OPEN_SECONDS", open), ("CIRCUIT_OPEN_MAX_SECONDS", open_at_most)),
            open_at_most,
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
                .or::<Sender>(
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
mod tests;
