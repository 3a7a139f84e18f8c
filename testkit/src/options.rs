//! How to start the product.

use std::path::PathBuf;

/// What the product runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One process, SQLite, an in-process queue.
    Embedded,
    /// API and workers as processes of their own, PostgreSQL, Redis.
    Stack,
}

impl Backend {
    /// From `RELAYPOST_TEST_BACKEND`: `embedded` (the default) or `stack`.
    pub fn from_env() -> Backend {
        match std::env::var("RELAYPOST_TEST_BACKEND").as_deref() {
            Err(_) | Ok("" | "embedded") => Backend::Embedded,
            Ok("stack") => Backend::Stack,
            Ok(other) => panic!("RELAYPOST_TEST_BACKEND is `{other}`; it is `embedded` or `stack`"),
        }
    }
}

/// How to start a [`World`].
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// The folder in which the product's binaries lie.
    pub bin_dir: PathBuf,
    /// What it runs on.
    pub backend: Backend,
    /// How many workers start with it (stack only).
    pub workers: usize,
    /// How many API processes start with it (stack only).
    pub api: usize,
    /// Whether the product reaches PostgreSQL and Redis through a [`Relay`](crate::Relay) each (stack only).
    pub relays: bool,
    /// The folder of the SQLite file (embedded only); without one a folder of its own.
    pub sqlite_dir: Option<PathBuf>,
    /// Settings on top of the usual ones, for every process; a later one wins.
    pub extra_env: Vec<(String, String)>,
}

impl WorldOptions {
    /// The backend from the environment, two workers, one API.
    pub fn new(bin_dir: impl Into<PathBuf>) -> WorldOptions {
        WorldOptions {
            bin_dir: bin_dir.into(),
            backend: Backend::from_env(),
            workers: 2,
            api: 1,
            relays: false,
            sqlite_dir: None,
            extra_env: Vec::new(),
        }
    }

    /// With this setting.
    pub fn env(mut self, name: &str, value: &str) -> WorldOptions {
        self.extra_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this many workers.
    pub fn workers(mut self, workers: usize) -> WorldOptions {
        self.workers = workers;
        self
    }

    /// With a relay in front of PostgreSQL and of Redis.
    pub fn relays(mut self) -> WorldOptions {
        self.relays = true;
        self
    }

    /// With the SQLite file in this folder.
    pub fn sqlite_dir(mut self, dir: impl Into<PathBuf>) -> WorldOptions {
        self.sqlite_dir = Some(dir.into());
        self
    }

    /// With this many API processes.
    pub fn apis(mut self, apis: usize) -> WorldOptions {
        self.api = apis;
        self
    }
}
