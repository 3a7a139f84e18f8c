//! The driver's pools, with checks of every connection that goes out and comes back.

use std::{sync::Arc, time::Duration};

use sea_orm::{
    DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector,
    sqlx::{
        self, Connection as _, PgConnection, SqliteConnection,
        pool::PoolConnectionMetadata,
        postgres::{PgConnectOptions, PgPoolOptions},
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    },
};
use tokio::time::timeout;

use super::sessions::Sessions;

/// How long a connection may be idle before it is tested.
const IDLE: Duration = Duration::from_secs(1);
/// How long a test of an idle connection may take.
const PING: Duration = Duration::from_secs(1);

/// A pool of connections to PostgreSQL, each of which is opened when it is first needed.
pub(super) fn postgres(
    options: &PgConnectOptions,
    at_most: u32,
    sessions: &Arc<Sessions>,
    generation: u64,
) -> DatabaseConnection {
    let mut options = options.clone();
    let limits = [
        ("statement_timeout", sessions.statement_timeout()),
        (
            "idle_in_transaction_session_timeout",
            sessions.idle_timeout(),
        ),
    ];
    for (name, limit) in limits {
        if let Some(limit) = limit {
            options = options.options([(name, limit.as_millis())]);
        }
    }
    let (before, after) = (sessions.clone(), sessions.clone());
    let pool = PgPoolOptions::new()
        .max_connections(at_most)
        .acquire_timeout(sessions.acquire_timeout())
        .test_before_acquire(false)
        .before_acquire(move |connection, state| {
            let sessions = before.clone();
            Box::pin(async move { usable(connection, state, &sessions, generation).await })
        })
        .after_release(move |_, _| {
            let current = after.generation() == generation;
            Box::pin(async move { Ok(current) })
        })
        .connect_lazy_with(options);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}

/// Whether a connection may be used. One that was idle may have been closed by a restart of the server, or lead nowhere
/// any more; a busy one shows that itself.
async fn usable(
    connection: &mut PgConnection,
    state: PoolConnectionMetadata,
    sessions: &Sessions,
    generation: u64,
) -> Result<bool, sqlx::Error> {
    if sessions.generation() != generation {
        return Ok(false);
    }
    if state.idle_for < IDLE {
        return Ok(true);
    }
    match timeout(PING, connection.ping()).await {
        Ok(answer) => Ok(answer.is_ok()),
        Err(_) => {
            sessions.renew(generation, "an idle connection to the database is silent");
            Ok(false)
        }
    }
}

/// The one connection to SQLite: it has one writer anyway, and a second connection would only turn waiting into
/// `SQLITE_BUSY`.
pub(super) fn sqlite(
    options: &SqliteConnectOptions,
    sessions: &Arc<Sessions>,
    generation: u64,
) -> DatabaseConnection {
    let sessions = sessions.clone();
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(super::ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_release(move |connection, _| {
            let current = sessions.generation() == generation;
            Box::pin(async move { Ok(current && is_at_rest(connection).await) })
        })
        .connect_lazy_with(options.clone());
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
}

/// Whether no transaction is open on the connection, for SQLite as well as for the driver. On some errors (a full disk is
/// one) SQLite rolls back by itself and the driver does not learn of it: it would nest every later transaction into one
/// that nobody commits. Such a connection is closed.
async fn is_at_rest(connection: &mut SqliteConnection) -> bool {
    // Inside another transaction this fails, whichever of the two believes in that.
    let begun = connection.begin_with("BEGIN DEFERRED").await;
    let ended = async { begun?.rollback().await }.await;
    if let Err(error) = &ended {
        tracing::debug!(%error, "closing a database connection whose transaction did not end");
    }
    ended.is_ok()
}
