//! One migration at a time, across all processes that share a PostgreSQL database.

use std::time::Duration;

use relaypost_shared::db::driver_error;
use sea_orm_migration::sea_orm::{
    DatabaseConnection, DbErr,
    sqlx::{self, ConnectOptions as _, Connection as _, PgConnection},
};
use tokio::time::{Instant, sleep, timeout};

/// The number of the advisory lock: `relaypst` in ASCII. Such locks belong to one database (PostgreSQL manual, section 13.3.5).
const NUMBER: i64 = i64::from_be_bytes(*b"relaypst");
/// How long one statement about the lock may take.
const STATEMENT: Duration = Duration::from_secs(10);
/// How long to wait for another process that migrates.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(200);

/// The lock, held until this value is released or its process ends.
#[derive(Debug)]
pub(super) struct Lock(PgConnection);

impl Lock {
    /// Takes the lock, and waits up to ten minutes for another process that has it.
    ///
    /// It belongs to a transaction on a connection of its own: migrations may then use the whole pool, which can be one
    /// connection, and a pooler that shares sessions between transactions does not lose it.
    ///
    /// # Errors
    /// When the database fails, or another process does not finish in time.
    pub(super) async fn take(db: &DatabaseConnection) -> Result<Self, DbErr> {
        let server = db.get_postgres_connection_pool().connect_options();
        let mut session = in_time(server.connect()).await?;
        // The server must not end the transaction because a long migration leaves it idle.
        let begin = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0";
        in_time(sqlx::raw_sql(begin).execute(&mut session)).await?;
        let deadline = Instant::now() + PATIENCE;
        let mut is_waiting = false;
        while !try_take(&mut session).await? {
            if Instant::now() >= deadline {
                return Err(DbErr::Custom(format!(
                    "another process has been migrating this database for {} minutes; wait until it has finished and \
                     try again",
                    PATIENCE.as_secs() / 60
                )));
            }
            if !is_waiting {
                tracing::info!("waiting for another process that is migrating this database");
                is_waiting = true;
            }
            sleep(POLL).await;
        }
        Ok(Self(session))
    }

    /// Gives the lock back. A failure is not one of the migration, and the lock ends with the session in any case.
    pub(super) async fn release(self) {
        let _ = timeout(STATEMENT, self.0.close()).await;
    }
}

async fn try_take(session: &mut PgConnection) -> Result<bool, DbErr> {
    let query = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(NUMBER);
    in_time(query.fetch_one(session)).await
}

async fn in_time<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, DbErr> {
    let result = timeout(STATEMENT, step)
        .await
        .map_err(|_| DbErr::Custom("the database did not answer in time".to_owned()))?;
    result.map_err(driver_error)
}
