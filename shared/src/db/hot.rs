//! Connections for the few statements that every delivery goes through.
//!
//! They find rows by their ids, or a few by an index and in its order. PostgreSQL has to be told that this is the way: its statistics are empty for a new
//! database and old for one that grows fast, and going by them it has been seen to read a whole table for each batch. So
//! these connections plan a statement once, for any parameters, and only with indexes.

use sea_orm::{ConnectionTrait as _, DbBackend, sqlx::postgres::PgConnectOptions};

use super::{Database, pools};

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
pub fn hot(db: &Database) -> Database {
    if db.get_database_backend() != DbBackend::Postgres {
        return db.clone();
    }
    let server = db.connection();
    let server = server.get_postgres_connection_pool().connect_options();
    let options = PgConnectOptions::clone(&server).options(PLANS);
    db.beside(Box::new(move |sessions, generation| {
        pools::postgres(&options, CONNECTIONS, sessions, generation)
    }))
}
