//! The database: connecting, write transactions, and statements over many rows at once.

mod database;
mod fault;
mod hold;
mod hot;
mod page;
mod pools;
pub mod rows;
mod sessions;
mod time;
mod watch;

use std::{path::Path, str::FromStr as _, sync::Arc, time::Duration};

use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, RuntimeErr, SqliteTransactionMode, Statement,
    TransactionOptions,
    sqlx::{
        self, ConnectOptions as _, Connection as _, PgConnection,
        postgres::PgConnectOptions,
        sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};

pub use database::{Database, Postgres, Transaction};
pub use fault::{
    driver_error, is_broken, is_full, is_outcome_unknown, is_unavailable, lacks_partition,
};
pub use hold::{Hold, HoldError};
pub use hot::hot;
pub use page::{Bounds, Slice};
pub use rows::placeholders;
pub use time::clock;

use crate::{
    clock::{Clock, Timestamp},
    settings::DatabaseUrl,
};
use sessions::Sessions;

/// The name of our sessions in PostgreSQL (`pg_stat_activity.application_name`), unless `DATABASE_URL` gives another.
pub const APPLICATION: &str = "relaypost";
/// How long the first connection may take, and how long SQLite waits for its file.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a database at a `postgres://…` or `sqlite://…` address.
///
/// On PostgreSQL every statement has to end within `patience`, the wait for one of `max_connections` included; the server
/// itself ends it somewhat earlier. Without a patience, as for migrations, a statement takes as long as it takes.
///
/// SQLite gets exactly one connection, and no deadline: nothing lies between this process and its file. Its journal is a
/// write-ahead log, and every commit reaches the disk. A new file can give freed pages back to the disk
/// (`auto_vacuum = incremental`).
///
/// # Errors
/// When the database does not answer, or the folder of an SQLite file cannot be made.
pub async fn connect(
    url: &DatabaseUrl,
    max_connections: u32,
    patience: Option<Duration>,
) -> Result<Database, DbErr> {
    if url.is_sqlite() {
        return open_sqlite(url).await;
    }
    // Compiling takes tens of milliseconds and starting processes beside one's own several, and no statement here reads enough
    // rows to be worth it.
    let options = PgConnectOptions::from_str(url.as_str()).map_err(unreachable)?;
    let mut options = options
        .options([("jit", "off"), ("max_parallel_workers_per_gather", "0")])
        .disable_statement_logging();
    if options.get_application_name().is_none() {
        options = options.application_name(APPLICATION);
    }
    // The pool would try for as long as a connection may take and then say only that it gave up.
    let connection = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(&options));
    let connection = connection
        .await
        .map_err(|_| DbErr::Custom("no answer in time".to_owned()))?;
    let closed = async { connection?.close().await }.await;
    closed.map_err(unreachable)?;
    let sessions = Arc::new(Sessions::new(patience));
    if patience.is_some() {
        watch::start(options.clone(), &sessions);
    }
    Ok(Database::new(
        sessions,
        Box::new(move |sessions, generation| {
            pools::postgres(&options, max_connections, sessions, generation)
        }),
    ))
}

async fn open_sqlite(url: &DatabaseUrl) -> Result<Database, DbErr> {
    if let Some(folder) = url.sqlite_path().and_then(|path| Path::new(path).parent()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            DbErr::Custom(format!(
                "cannot make the folder {}: {error}",
                folder.display()
            ))
        })?;
    }
    let options = SqliteConnectOptions::from_str(url.as_str()).map_err(unreachable)?;
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .disable_statement_logging();
    if is_new(url) {
        make_sqlite(&options).await.map_err(unreachable)?;
    }
    let sessions = Arc::new(Sessions::new(None));
    let db = Database::new(
        sessions,
        Box::new(move |sessions, generation| pools::sqlite(&options, sessions, generation)),
    );
    db.ping().await?;
    Ok(db)
}

/// Whether the file of an SQLite database does not exist yet, or is empty.
fn is_new(url: &DatabaseUrl) -> bool {
    let path = url.sqlite_path().map(Path::new);
    path.is_some_and(|path| std::fs::metadata(path).map_or(true, |file| file.len() == 0))
}

/// Makes the file of an SQLite database, so that `PRAGMA incremental_vacuum` can give pages back that retention has freed.
/// That has to be decided before the first table exists; a later change needs a `VACUUM`, which writes the whole file anew.
/// It is on no other connection: on an existing file the pragma writes, and a full disk would refuse the connection.
async fn make_sqlite(options: &SqliteConnectOptions) -> Result<(), sqlx::Error> {
    let options = options.clone().auto_vacuum(SqliteAutoVacuum::Incremental);
    options.connect().await?.close().await
}

fn unreachable(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

/// Begins a transaction that is going to write. On SQLite it takes the write lock at once: a transaction that reads
/// first and then wants to write could otherwise fail in the middle because another process wrote in between.
///
/// # Errors
/// When the database cannot be reached.
pub async fn begin_write(db: &Database) -> Result<Transaction, DbErr> {
    db.begin_with(TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    })
    .await
}

/// The time that the whole fleet agrees on: PostgreSQL's. An SQLite database is of this machine, and so is its time.
///
/// # Errors
/// When the database cannot be asked.
pub async fn now(db: &Database, clock: &Clock) -> Result<Timestamp, DbErr> {
    let backend = db.get_database_backend();
    if backend != DbBackend::Postgres {
        return Ok(clock.now());
    }
    let row = db
        .query_one_raw(Statement::from_string(backend, "SELECT now() AS now"))
        .await?;
    row.map_or_else(|| Ok(clock.now()), |row| row.try_get("", "now"))
}

/// The clause that lets several workers claim different rows of one table at the same time. SQLite knows no row locks
/// and needs none, because it has one writer.
pub const fn skip_locked(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => " FOR UPDATE SKIP LOCKED",
        _ => "",
    }
}
