//! The database: connecting, write transactions, and statements over many rows at once.

mod fault;
mod hot;
pub mod rows;

use std::{path::Path, time::Duration};

use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction,
    DbBackend, DbErr, RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait,
    sqlx::{Connection as _, PgConnection},
};

pub use fault::{driver_error, is_unavailable};
pub use hot::{hot, postgres};
pub use rows::placeholders;

use crate::{
    clock::{Clock, Timestamp},
    settings::DatabaseUrl,
};

/// The name of our sessions in PostgreSQL (`pg_stat_activity.application_name`), unless `DATABASE_URL` gives another.
pub const APPLICATION: &str = "relaypost";

/// How long a statement waits for a free connection before it fails as "database busy".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle before it is tested.
const IDLE: Duration = Duration::from_secs(1);

/// Opens a pool on a `postgres://…` or `sqlite://…` address.
///
/// SQLite gets exactly one connection: it has one writer anyway, and a second connection would only turn waiting into
/// `SQLITE_BUSY`. Its journal is a write-ahead log, and every commit reaches the disk.
///
/// # Errors
/// When the database does not answer, or the folder of an SQLite file cannot be made.
pub async fn connect(url: &DatabaseUrl, max_connections: u32) -> Result<DatabaseConnection, DbErr> {
    let sqlite = url.is_sqlite();
    if let Some(folder) = url.sqlite_path().and_then(|path| Path::new(path).parent()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            DbErr::Custom(format!(
                "cannot make the folder {}: {error}",
                folder.display()
            ))
        })?;
    }
    let mut options = ConnectOptions::new(url.as_str());
    options
        .max_connections(if sqlite { 1 } else { max_connections })
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .sqlx_logging(false)
        // A connection that was idle may have been closed by a restart of the server; a busy one shows that itself.
        .test_before_acquire_if_idle_for(IDLE);
    if sqlite {
        options.map_sqlx_sqlite_opts(|options| {
            options
                .create_if_missing(true)
                .foreign_keys(true)
                .pragma("journal_mode", "WAL")
                .pragma("synchronous", "FULL")
                .busy_timeout(ACQUIRE_TIMEOUT)
        });
    }
    if !sqlite {
        // Compiling takes tens of milliseconds, and no statement here reads enough rows to be worth it.
        options.map_sqlx_postgres_opts(|options| {
            let options = options.options([("jit", "off")]);
            match options.get_application_name() {
                None => options.application_name(APPLICATION),
                Some(_) => options,
            }
        });
        // The pool would try for as long as a connection may take and then say only that it gave up.
        let connection = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect(url.as_str()));
        let connection = connection
            .await
            .map_err(|_| DbErr::Custom("no answer in time".to_owned()))?;
        let closed = async { connection?.close().await }.await;
        closed.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
    }
    Database::connect(options).await
}

/// Begins a transaction that is going to write. On SQLite it takes the write lock at once: a transaction that reads
/// first and then wants to write could otherwise fail in the middle because another process wrote in between.
///
/// # Errors
/// When the database cannot be reached.
pub async fn begin_write(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    db.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    })
    .await
}

/// The time that the whole fleet agrees on: PostgreSQL's. An SQLite database is of this machine, and so is its time.
///
/// # Errors
/// When the database cannot be asked.
pub async fn now(db: &DatabaseConnection, clock: &Clock) -> Result<Timestamp, DbErr> {
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
