//! The API, a worker and the migrations in one process.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use anyhow::{Context as _, Error, Result, anyhow};
use relaypost_api as api;
use relaypost_migration as migration;
use relaypost_shared::{
    db::{self, Hold},
    queue::Queue,
    serve,
    settings::{AppEnv, Settings},
};
use relaypost_worker as worker;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

/// A running instance.
pub(crate) struct Embedded {
    address: SocketAddr,
    key: PlatformKey,
    /// Keeps other processes from serving the same SQLite file.
    _hold: Option<Hold>,
    /// Turns not ready and goes on to serve for the delay of the settings.
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: watch::Sender<bool>,
    api: JoinHandle<Result<()>>,
    worker: JoinHandle<Result<()>>,
}

/// Where the operator of this instance finds a key of platform scope.
enum PlatformKey {
    /// In the environment.
    Root,
    /// Made by a fresh development instance. The database has only its hash; beside an SQLite file the text is kept,
    /// readable by its owner alone, so that the next start has a ready key too.
    First { text: String, file: Option<PathBuf> },
    /// Nowhere that this process knows of.
    Unknown,
}

impl PlatformKey {
    fn of(settings: &Settings, fresh: Option<String>) -> Result<Self> {
        if settings.root_api_key.is_some() {
            return Ok(Self::Root);
        }
        let folder = settings
            .database_url
            .sqlite_path()
            .and_then(|path| Path::new(path).parent());
        let file = folder.map(|folder| folder.join("platform-key"));
        if let (Some(text), Some(file)) = (&fresh, &file) {
            let mut options = OpenOptions::new();
            let opened = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(file);
            let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
            written.with_context(|| format!("{} cannot be written", file.display()))?;
        }
        let kept = file
            .as_ref()
            .filter(|_| settings.env == AppEnv::Development);
        let text = fresh.or_else(|| std::fs::read_to_string(kept?).ok());
        Ok(text.map_or(Self::Unknown, |text| Self::First { text, file }))
    }
}

impl Embedded {
    /// Brings the schema up to date and starts everything.
    ///
    /// # Errors
    /// When the database cannot be opened or the address is taken.
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        let settings = Arc::new(settings);
        let hold = settings.database_url.sqlite_path();
        let hold = hold.map(|path| Hold::take(Path::new(path))).transpose();
        let hold = hold.context("DATABASE_URL")?;
        let migrated = migration::up_without_deadline(&settings).await;
        migrated.context("DATABASE_URL: the database cannot be opened or migrated")?;
        let (url, patience) = (&settings.database_url, Some(settings.database_timeout));
        let db = db::connect(url, settings.database_connections, patience)
            .await
            .context("DATABASE_URL: the database cannot be opened")?;
        migration::sealed::keys_or_exit(&db, &settings.keyring).await?;
        let queue = Queue::open(settings.redis_url.as_deref()).context("REDIS_URL")?;
        let clock = db::clock(&db)
            .await
            .context("DATABASE_URL: the database's time cannot be read")?;
        let listener = serve::bind(settings.bind_addr)
            .with_context(|| format!("BIND_ADDR: cannot listen on {}", settings.bind_addr))?;
        let address = listener.local_addr()?;

        let (stop, stopped) = watch::channel(false);
        let health = migration::health(&db, &queue);
        let services = worker::Services {
            db: db.clone(),
            queue: queue.clone(),
            clock: clock.clone(),
            settings: settings.clone(),
            health: health.clone(),
        };
        let working = worker::run(services, told(stopped.clone()));
        let worker = tokio::spawn(async move { working.await.context("the worker cannot start") });
        let services = api::Services::beside(health.clone(), db, queue, clock, settings.clone());
        let fresh = services
            .first_key()
            .await
            .context("the first key cannot be made")?;
        let key = PlatformKey::of(&settings, fresh)?;
        let serving = api::serve(services, listener, told(stopped));
        let api = tokio::spawn(async move { serving.await.context("the API cannot serve") });
        Ok(Self {
            address,
            key,
            _hold: hold,
            leave: Box::pin(async move { health.stop(settings.shutdown_delay).await }),
            stop,
            api,
            worker,
        })
    }

    /// Where it serves.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says on standard output where everything is.
    pub(crate) fn greet(&self) {
        println!("Swagger UI: {}/docs", self.url());
        match &self.key {
            PlatformKey::Root => println!("Platform key: the one in ROOT_API_KEY"),
            PlatformKey::First {
                text,
                file: Some(file),
            } => {
                println!(
                    "Platform key: {text} (kept in {}, for development only)",
                    file.display()
                );
            }
            PlatformKey::First { text, file: None } => {
                println!("Platform key, shown this one time: {text}")
            }
            PlatformKey::Unknown => println!("Platform key: unknown here; ROOT_API_KEY sets one"),
        }
    }

    /// Runs until `stop` is ready, then finishes what is in flight, and ends.
    ///
    /// # Errors
    /// When a part ended by itself: half of an instance would look alive and do nothing.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let (error, other) = tokio::select! {
            () = stop => return self.stop().await,
            ended = &mut self.api => (by_itself("the API", ended), &mut self.worker),
            ended = &mut self.worker => (by_itself("the worker", ended), &mut self.api),
        };
        // The other part may have ended as well, and the first end is the one to tell.
        let _ = self.stop.send(true);
        let _ = other.await;
        Err(error)
    }

    /// Stops taking requests, finishes what is in flight, and ends.
    ///
    /// # Errors
    /// When a part ended by itself with an error.
    pub(crate) async fn stop(self) -> Result<()> {
        // The worker goes on meanwhile: what is still accepted is delivered.
        self.leave.await;
        // Both parts may have ended by themselves.
        let _ = self.stop.send(true);
        self.api.await??;
        self.worker.await?
    }
}

fn by_itself(part: &str, ended: Result<Result<()>, JoinError>) -> Error {
    let ended = ended.map_err(Error::from).flatten();
    let why = ended.err().unwrap_or_else(|| anyhow!("nobody told it to"));
    why.context(format!("{part} ended by itself"))
}

/// Completes when the sender says so, or is gone.
async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopping| *stopping).await;
}

/// The settings of the demo: a free port, everything in `folder`, and quiet logs.
///
/// # Errors
/// When the folder's name does not make settings.
pub(crate) fn demo_settings(folder: &Path, root_key: &str) -> Result<Settings> {
    let folder = folder
        .to_str()
        .context("the temporary folder's name is not UTF-8")?;
    let pairs = [
        ("BIND_ADDR", "127.0.0.1:0".to_owned()),
        ("DATABASE_URL", format!("sqlite://{folder}/relaypost.db")),
        ("EMAIL_PROVIDERS", format!("file://{folder}/mail")),
        ("ROOT_API_KEY", root_key.to_owned()),
        ("LOG", "warn".to_owned()),
    ];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
    Ok(Settings::from_map(HashMap::from(pairs))?)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{spawn, time::timeout};

    use super::*;

    /// An instance whose parts do this when they are told to stop.
    fn instance<A, W>(
        api: impl FnOnce(watch::Receiver<bool>) -> A,
        worker: impl FnOnce(watch::Receiver<bool>) -> W,
    ) -> Embedded
    where
        A: Future<Output = Result<()>> + Send + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        Embedded {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            _hold: None,
            key: PlatformKey::Unknown,
            leave: Box::pin(async {}),
            stop,
            api: spawn(api(stopped.clone())),
            worker: spawn(worker(stopped)),
        }
    }

    async fn works(stopped: watch::Receiver<bool>) -> Result<()> {
        told(stopped).await;
        Ok(())
    }

    async fn outcome(instance: Embedded, stop: impl Future<Output = ()>) -> Result<()> {
        let ended = timeout(Duration::from_secs(20), instance.run(stop)).await;
        ended.unwrap()
    }

    #[tokio::test]
    async fn an_instance_ends_with_an_error_when_a_part_ends_by_itself() {
        let cases = [
            (
                instance(|_| async { Ok(()) }, works),
                "the API ended by itself: nobody told it to",
            ),
            (
                instance(works, |_| async { Err(anyhow!("no mail")) }),
                "the worker ended by itself: no mail",
            ),
            (
                instance(works, |_| async { panic!("a mistake") }),
                "the worker ended by itself: task",
            ),
        ];
        for (instance, why) in cases {
            let error = format!("{:#}", outcome(instance, pending()).await.unwrap_err());
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[tokio::test]
    async fn an_instance_that_is_told_to_stop_ends_without_one() {
        outcome(instance(works, works), async {}).await.unwrap();
    }
}
