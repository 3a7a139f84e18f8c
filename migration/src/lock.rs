//! One process at a time changes the schema.

use std::time::Duration;

use sea_orm_migration::sea_orm::{
    DatabaseConnection, DbBackend, DbErr, RuntimeErr,
    sqlx::{self, Connection as _, PgConnection},
};

/// The number of the advisory lock: `relaypst` in ASCII, read as a number.
const KEY: i64 = i64::from_be_bytes(*b"relaypst");
/// How often a process that waits for its turn asks again. The server is not made to wait: a limit for statements would
/// end that.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The right to change the schema, for as long as this connection lives. SQLite has one process, which needs none.
#[derive(Debug)]
pub(crate) struct Lock(Option<PgConnection>);

impl Lock {
    /// Waits for the other processes that change the schema. The connection is one beside the pool, which may have only
    /// one.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn take(db: &DatabaseConnection) -> Result<Self, DbErr> {
        if db.get_database_backend() != DbBackend::Postgres {
            return Ok(Self(None));
        }
        let options = db.get_postgres_connection_pool().connect_options();
        let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
        let mut told = false;
        while !try_lock(&mut connection).await.map_err(failed)? {
            if !told {
                tracing::info!("another process changes the schema; waiting for it");
                told = true;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(Self(Some(connection)))
    }

    /// Lets the next process go on. Dropping the lock does so too, once the server notices.
    pub(crate) async fn release(self) -> Result<(), DbErr> {
        match self.0 {
            Some(connection) => connection.close().await.map_err(failed),
            None => Ok(()),
        }
    }
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(KEY)
        .fetch_one(connection)
        .await
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}
