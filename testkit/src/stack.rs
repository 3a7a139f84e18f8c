//! The product as its users run it: its own binaries, against services of their own.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

pub use crate::options::{Backend, WorldOptions};

use crate::api::Api;
use crate::database::TestDatabase;
use crate::process::Proc;
use crate::redis::RedisServer;
use crate::relay::Relay;
use crate::smtp::SmtpServer;
use crate::tenant::{Tenant, text};

/// The platform-scope key that every world starts with.
pub const ROOT_API_KEY: &str = "rp_Lq8vT2nXc5Rb9WjYk3Gd7HsPf6MzQa1E";

const MIGRATION_DEADLINE: Duration = Duration::from_secs(60);

/// The relays in front of the product's services. A [`World`]'s own connections do not go through them.
pub struct Relays {
    /// In front of PostgreSQL.
    pub database: Relay,
    /// In front of Redis.
    pub redis: Relay,
}

/// The running product. Dropping it kills every process; [`World::stop`] removes the database as well.
pub struct World {
    /// The API processes; on the embedded backend the one process.
    pub apis: Vec<Proc>,
    /// The workers (stack only).
    pub workers: Vec<Proc>,
    /// A client with the root key, of the first API process.
    pub client: Api,
    /// The only mail provider.
    pub smtp: SmtpServer,
    /// The queue (stack only).
    pub redis: Option<RedisServer>,
    /// The database.
    pub database: TestDatabase,
    /// What stands between the product and its services, when [`WorldOptions::relays`] asks for it.
    pub relays: Option<Relays>,
    bin_dir: PathBuf,
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl World {
    /// Starts the product and waits until every process listens.
    pub async fn start(options: WorldOptions) -> World {
        let smtp = SmtpServer::start().await;
        let (database, redis) = match options.backend {
            Backend::Embedded => (embedded_database(&options), None),
            Backend::Stack => (
                TestDatabase::postgres().await,
                Some(RedisServer::start().await),
            ),
        };
        let relays = match &redis {
            Some(redis) if options.relays => Some(Relays {
                database: Relay::start(database.server_addr().await).await,
                redis: Relay::start(redis.addr()).await,
            }),
            _ => None,
        };
        let mut env = environment(&options, &smtp, &database, redis.as_ref());
        if let Some(relays) = &relays {
            let redis = format!("redis://{}", relays.redis.addr());
            env.push((
                "DATABASE_URL".to_owned(),
                database.url_at(relays.database.addr()),
            ));
            env.push(("REDIS_URL".to_owned(), redis));
        }
        let mut world = World {
            apis: Vec::new(),
            workers: Vec::new(),
            client: Api::new("", ROOT_API_KEY),
            smtp,
            redis,
            database,
            relays,
            bin_dir: options.bin_dir,
            env,
            dir: TempDir::new().unwrap(),
        };
        match options.backend {
            Backend::Embedded => world.apis.push(world.serve("relaypost").await),
            Backend::Stack => world.start_stack(options.api, options.workers).await,
        }
        if let Some(first) = world.apis.first() {
            world.client = world.client.with_base(&first.base_url());
        }
        world
    }

    async fn start_stack(&mut self, apis: usize, workers: usize) {
        let migrate = self.spawn("relaypost-migrate", "up");
        let code = migrate.wait_exit(MIGRATION_DEADLINE).await;
        assert_eq!(code, 0, "{}", migrate.describe());
        for _ in 0..apis {
            self.start_api().await;
        }
        for _ in 0..workers {
            self.start_worker().await;
        }
    }

    /// Starts one more worker.
    pub async fn start_worker(&mut self) -> &Proc {
        let worker = self.serve("relaypost-worker").await;
        self.workers.push_mut(worker)
    }

    /// Starts one more API process.
    pub async fn start_api(&mut self) -> &Proc {
        let api = self.serve("relaypost-api").await;
        self.apis.push_mut(api)
    }

    /// The relays of a world that has them.
    pub fn relays(&self) -> &Relays {
        self.relays.as_ref().expect("a world with relays")
    }

    /// The Redis server, on the stack backend.
    pub fn redis(&mut self) -> &mut RedisServer {
        self.redis.as_mut().expect("a world on the stack backend")
    }

    /// Panics when any process has ended that should not have.
    pub fn assert_all_running(&self) {
        for process in self.apis.iter().chain(&self.workers) {
            assert!(process.is_running(), "has ended: {}", process.describe());
        }
    }

    /// Creates a tenant with a key that may do everything within it.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let tenant = self
            .client
            .post("/v1/tenants", json!({"name": name}))
            .await
            .expect(201);
        let id = text(&tenant, "id");
        let (_, key) = self.api_key(&id).await;
        Tenant {
            api: self.client.with_key(&key),
            id,
        }
    }

    /// Creates one more key of a tenant and returns its id and the key.
    pub async fn api_key(&self, tenant_id: &str) -> (String, String) {
        let wanted = json!({"name": "tests", "scopes": ["send", "read", "manage", "admin"]});
        let path = format!("/v1/tenants/{tenant_id}/api-keys");
        let created = self.client.post(&path, wanted).await.expect(201);
        (text(&created, "id"), text(&created, "key"))
    }

    /// Kills every process and drops the database.
    pub async fn stop(self) {
        let World {
            apis,
            workers,
            database,
            redis,
            ..
        } = self;
        drop((apis, workers, redis));
        database.drop_now().await;
    }

    /// Starts a binary of the product with the world's settings and waits for nothing.
    pub fn spawn(&self, binary: &str, command: &str) -> Proc {
        Proc::spawn(
            self.dir.path(),
            &self.bin_dir.join(binary),
            &[command],
            &self.env,
        )
        .keeping(self.client.secrets().clone())
    }

    /// Changes a setting of the processes that are started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Stops every process, gently, and starts as many again with this setting changed. They listen elsewhere: clients
    /// of the old ones take [`World::client`]'s address.
    pub async fn restart_with(&mut self, name: &str, value: &str) {
        let (apis, workers) = (self.apis.len(), self.workers.len());
        for process in self.apis.drain(..).chain(self.workers.drain(..)) {
            process.sigterm();
            let code = process.wait_exit(MIGRATION_DEADLINE).await;
            assert_eq!(code, 0, "{}", process.describe());
        }
        self.set(name, value);
        match self.redis {
            None => self.apis.push(self.serve("relaypost").await),
            Some(_) => self.start_stack(apis, workers).await,
        }
        let first = self.apis.first().expect("an API");
        self.client = self.client.with_base(&first.base_url());
    }

    /// Starts a server of the product with the world's settings and waits until it listens, or says how it ended
    /// instead. The caller keeps it.
    pub async fn try_serve(&self, binary: &str) -> Result<Proc, String> {
        let binary = self.bin_dir.join(binary);
        let started = Proc::try_start(self.dir.path(), &binary, &["serve"], &self.env).await?;
        Ok(started.keeping(self.client.secrets().clone()))
    }

    async fn serve(&self, binary: &str) -> Proc {
        let started = self.try_serve(binary).await;
        started.unwrap_or_else(|why| panic!("{why}"))
    }
}

fn embedded_database(options: &WorldOptions) -> TestDatabase {
    match &options.sqlite_dir {
        Some(dir) => TestDatabase::sqlite_in(dir),
        None => TestDatabase::sqlite(),
    }
}

fn environment(
    options: &WorldOptions,
    smtp: &SmtpServer,
    database: &TestDatabase,
    redis: Option<&RedisServer>,
) -> Vec<(String, String)> {
    let usual = [
        ("APP_ENV", "development".to_owned()),
        ("BIND_ADDR", "127.0.0.1:0".to_owned()),
        ("WORKER_BIND_ADDR", "127.0.0.1:0".to_owned()),
        ("DATABASE_URL", database.url().to_owned()),
        ("ROOT_API_KEY", ROOT_API_KEY.to_owned()),
        (
            "EMAIL_PROVIDERS",
            format!("smtp://{}?tls=none", smtp.addr()),
        ),
        (
            "EMAIL_DEFAULT_FROM",
            "Relaypost <noreply@example.test>".to_owned(),
        ),
    ];
    let set = |(name, value): &(String, String)| name == "APP_ENV" && value == "production";
    let mut env: Vec<(String, String)> = match options.extra_env.iter().any(set) {
        true => crate::production().into_iter().collect(),
        false => Vec::new(),
    };
    env.extend(usual.map(|(name, value)| (name.to_owned(), value)));
    env.extend(redis.map(|redis| ("REDIS_URL".to_owned(), redis.url())));
    env.extend(options.extra_env.iter().cloned());
    env
}
