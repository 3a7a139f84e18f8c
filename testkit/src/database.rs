//! A database for one test.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use sea_orm::{ConnectionTrait, Database};
use tempfile::TempDir;
use tokio::process::Command;

/// A fresh, empty database. A test that fails leaves its PostgreSQL database behind to be looked into; `drop_now`
/// removes it.
pub struct TestDatabase {
    url: String,
    kind: Kind,
}

enum Kind {
    Postgres { server: String, name: String },
    Sqlite { dir: PathBuf, _own: Option<TempDir> },
}

impl TestDatabase {
    /// A database of a random name on the server of `TEST_DATABASE_URL` (a `postgres://…/postgres`).
    pub async fn postgres() -> TestDatabase {
        let server = std::env::var("TEST_DATABASE_URL").unwrap_or_else(|_| {
            panic!("TEST_DATABASE_URL is not set: run `make test`, which starts a PostgreSQL for the tests")
        });
        // Two hashers with random keys are 128 random bits without another dependency.
        let random = [(); 2].map(|()| RandomState::new().hash_one(std::process::id()));
        let name = format!("relaypost_test_{:016x}{:016x}", random[0], random[1]);
        on_server(&server, &format!(r#"CREATE DATABASE "{name}""#)).await;
        let mut url = Url::parse(&server).expect("TEST_DATABASE_URL is a URL");
        url.set_path(&name);
        TestDatabase {
            url: url.into(),
            kind: Kind::Postgres { server, name },
        }
    }

    /// A file in a folder of its own, which goes away with this value.
    pub fn sqlite() -> TestDatabase {
        let own = TempDir::new().unwrap();
        let TestDatabase { url, .. } = TestDatabase::sqlite_in(own.path());
        let (dir, own) = (own.path().to_owned(), Some(own));
        TestDatabase {
            url,
            kind: Kind::Sqlite { dir, _own: own },
        }
    }

    /// A file in this folder, which stays.
    pub fn sqlite_in(dir: &Path) -> TestDatabase {
        TestDatabase {
            url: format!("sqlite://{}?mode=rwc", dir.join("test.db").display()),
            kind: Kind::Sqlite {
                dir: dir.to_owned(),
                _own: None,
            },
        }
    }

    /// Its address for `DATABASE_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's address (PostgreSQL only).
    pub async fn server_addr(&self) -> SocketAddr {
        let url = Url::parse(&self.url).expect("DATABASE_URL is a URL");
        let host = url.host_str().expect("a server with a name");
        let at = (host, url.port().unwrap_or(5432));
        let found = tokio::net::lookup_host(at).await.unwrap().next();
        found.expect("an address")
    }

    /// The same database at another address (PostgreSQL only).
    pub fn url_at(&self, addr: SocketAddr) -> String {
        let mut url = Url::parse(&self.url).expect("DATABASE_URL is a URL");
        url.set_ip_host(addr.ip()).expect("a URL with a host");
        url.set_port(Some(addr.port())).expect("a URL with a port");
        url.into()
    }

    /// Runs a statement on the database of a product that is running, to make what no request can make any more.
    pub async fn execute(&self, statement: &str) {
        on_server(&self.url, statement).await;
    }

    /// Everything that the database holds: what `pg_dump` prints, or the bytes of SQLite's files.
    pub async fn dump(&self) -> Vec<u8> {
        match &self.kind {
            Kind::Postgres { .. } => {
                let dumped = Command::new("pg_dump").arg(&self.url).output().await;
                let dumped = dumped.expect("pg_dump is installed with PostgreSQL");
                let said = String::from_utf8_lossy(&dumped.stderr);
                assert!(dumped.status.success(), "{said}");
                dumped.stdout
            }
            Kind::Sqlite { dir, .. } => {
                let files = std::fs::read_dir(dir).unwrap();
                let bytes = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
                bytes.flatten().collect()
            }
        }
    }

    /// Crashes the server and starts it again (`pg_ctl restart -m immediate`). It must be one that `scripts/services` has
    /// started in the folder `TEST_SERVICES_DIR`.
    pub async fn crash_server(&self) {
        let dir = std::env::var_os("TEST_SERVICES_DIR")
            .expect("TEST_SERVICES_DIR names the folder of `scripts/services`");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services");
        let restarted = Command::new(script)
            .arg("restart-postgres")
            .arg(dir)
            .arg("immediate")
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&restarted.stderr);
        assert!(restarted.status.success(), "{said}");
    }

    /// Drops the database, whoever is still connected to it.
    pub async fn drop_now(self) {
        if let Kind::Postgres { server, name } = &self.kind {
            on_server(
                server,
                &format!(r#"DROP DATABASE IF EXISTS "{name}" WITH (FORCE)"#),
            )
            .await;
        }
    }
}

async fn on_server(url: &str, statement: &str) {
    let server = Database::connect(url).await.expect("the database answers");
    server.execute_unprepared(statement).await.unwrap();
    server.close().await.unwrap();
}
