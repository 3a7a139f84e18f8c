//! Connections for the few statements that every delivery goes through.
//!
//! They find rows by their ids, or a few by an index and in its order. PostgreSQL has to be told that this is the way: its statistics are empty for a new
//! database and old for one that grows fast, and going by them it has been seen to read a whole table for each batch. So
//! these connections plan a statement once, for any parameters, and only with indexes.

use sea_orm::{
    DatabaseConnection, DbBackend, SqlxPostgresConnector,
    sqlx::{
        Connection as _, PgPool,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};

use super::{ACQUIRE_TIMEOUT, IDLE};

/// How many there are: one for each lane's recorder, which may wait for a row, and as many to load with.
const CONNECTIONS: u32 = 6;
/// `jit` would take longer than such a statement itself.
const PLANS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

/// Makes them beside the other connections to the same PostgreSQL. Each is opened when it is first needed. SQLite has one
/// connection, which is this one as well.
pub fn hot(db: &DatabaseConnection) -> DatabaseConnection {
    if db.get_database_backend() != DbBackend::Postgres {
        return db.clone();
    }
    let server = db.get_postgres_connection_pool().connect_options();
    let options = PgConnectOptions::clone(&server).options(PLANS);
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, state| {
            Box::pin(async move {
                if state.idle_for < IDLE {
                    return Ok(true);
                }
                Ok(connection.ping().await.is_ok())
            })
        })
        .connect_lazy_with(options);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}

/// The connections themselves, for statements that are written for PostgreSQL's driver. None on SQLite.
pub fn postgres(hot: &DatabaseConnection) -> Option<&PgPool> {
    let is_postgres = hot.get_database_backend() == DbBackend::Postgres;
    is_postgres.then(|| hot.get_postgres_connection_pool())
}
