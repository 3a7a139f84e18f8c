//! Whether the database takes what the process writes.
//!
//! A ping answers on a database that is read-only, full or locked. So this makes a small durable write, over the pools that
//! requests and deliveries use, and touches the tables that they write to.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DbBackend, DbErr, RuntimeErr,
    sqlx::{
        AssertSqlSafe, Connection as _, Error as SqlxError, PgConnection, PgPool,
        error::DatabaseError, raw_sql,
    },
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    stage::DISK_FULL,
    tables::{Tables, locked_table},
};
use crate::db::{Database, begin_write};

/// How long a look may take.
pub(super) const LIMIT: Duration = Duration::from_secs(2);
/// How long the diagnosis after a failure may take.
const DIAGNOSIS: Duration = Duration::from_millis(500);

/// `lock_not_available` (PostgreSQL: manual, appendix A).
const LOCKED: &str = "55P03";
/// How many sessions one look tries.
const SESSIONS_TRIED: usize = 4;

/// The check on PostgreSQL: this, the locks of [`Tables`], and [`POSTGRES_WRITE`]. One message of the simple protocol is one
/// transaction, so the settings hold for it alone and an error leaves none open.
///
/// The server gives up before we do: what it goes on with would keep a connection of the pool. Rows that need more than
/// `work_mem` go through a temporary file, which a full disk refuses; the row itself always finds room on its page.
const POSTGRES: &str = "\
    SET LOCAL lock_timeout = '1s'; \
    SET LOCAL statement_timeout = '1800ms'; \
    SET LOCAL work_mem = '64kB'; \
    SELECT count(*) FROM generate_series(1, 8000)";
/// Comes last: whoever waits for a lock on a table must not keep the row from the checks of other pools and processes.
const POSTGRES_WRITE: &str = "\
    INSERT INTO probes (id, checked_at) VALUES (1, now()) \
    ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at";

/// As much as a message with its deliveries needs in the write-ahead log.
const SQLITE: &str = "\
    INSERT INTO probes (id, checked_at, filler) VALUES (1, CURRENT_TIMESTAMP, zeroblob(16384)) \
    ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at, filler = excluded.filler";

/// Writes over one pool, and takes the locks that work on these tables needs.
///
/// # Errors
/// Why it cannot be written, in words that hold no secret.
pub(super) async fn write(db: &Database, tables: Tables) -> Result<(), String> {
    match db.get_database_backend() {
        DbBackend::Postgres => {
            write_postgres(db.connection().get_postgres_connection_pool(), tables).await
        }
        _ => write_sqlite(db).await,
    }
}

/// Why nothing was written.
enum Fault {
    /// This session is broken or read-only, as sessions stay after a failover. It is thrown away, and another one may do
    /// better.
    OfTheSession(String),
    /// No other session would do better.
    OfTheServer(String),
}

async fn write_postgres(pool: &PgPool, tables: Tables) -> Result<(), String> {
    let deadline = Instant::now() + LIMIT;
    let mut last = String::new();
    for _ in 0..SESSIONS_TRIED {
        match write_in_a_session(pool, tables, deadline).await {
            Ok(()) => return Ok(()),
            Err(Fault::OfTheServer(why)) => return Err(why),
            Err(Fault::OfTheSession(why)) => last = why,
        }
    }
    Err(last)
}

async fn write_in_a_session(pool: &PgPool, tables: Tables, deadline: Instant) -> Result<(), Fault> {
    let mut connection = match timeout_at(deadline, pool.acquire()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(SqlxError::PoolClosed)) => {
            return Err(Fault::OfTheServer("the pool is closed".to_owned()));
        }
        Ok(Err(_)) | Err(_) => return Err(Fault::OfTheServer(why_no_connection(pool).await)),
    };
    let check = format!("{POSTGRES}; {}; {POSTGRES_WRITE}", tables.locks());
    let check = raw_sql(AssertSqlSafe(check)).execute(&mut *connection);
    match timeout_at(deadline, check).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            let why = reason(&error);
            if is_of_the_session(&error) {
                connection.close_on_drop();
                return Err(Fault::OfTheSession(why));
            }
            if !is_locked(&error) {
                return Err(Fault::OfTheServer(why));
            }
            // The error does not name the table.
            let asked = timeout(DIAGNOSIS, locked_table(&mut connection, tables)).await;
            if asked.is_err() {
                connection.close_on_drop();
            }
            let table = asked.ok().flatten();
            Err(Fault::OfTheServer(table.map_or(why, |table| {
                format!("locked: another session holds `{table}`")
            })))
        }
        Err(_) => {
            // It may never answer again, and would be waited for when it goes back to the pool.
            connection.close_on_drop();
            Err(Fault::OfTheServer(no_answer()))
        }
    }
}

async fn write_sqlite(db: &Database) -> Result<(), String> {
    let written = timeout(LIMIT, async {
        let transaction = begin_write(db).await?;
        transaction.execute_unprepared(SQLITE).await?;
        transaction.commit().await
    });
    match written.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(
            DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error))
            | DbErr::Conn(RuntimeErr::SqlxError(error)),
        )) => Err(reason(&error)),
        Ok(Err(DbErr::ConnectionAcquire(_))) => Err("no free connection".to_owned()),
        Ok(Err(_)) => Err("it cannot be written".to_owned()),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> String {
    format!("no answer in {} s", LIMIT.as_secs())
}

/// Whether another session may do better: this one is read-only, ended by the server, or broken.
fn is_of_the_session(error: &SqlxError) -> bool {
    let code = error.as_database_error().map(|error| error.code());
    code.is_none_or(|code| code.is_some_and(|code| ["25006", "57P01"].contains(&&*code)))
}

/// Whether another session held a lock for too long.
fn is_locked(error: &SqlxError) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == LOCKED)
}

/// The pool only says that it has waited. A connection beside it tells what for.
async fn why_no_connection(pool: &PgPool) -> String {
    let options = pool.connect_options();
    let fresh = timeout(DIAGNOSIS, PgConnection::connect_with(&options)).await;
    match fresh {
        Ok(Ok(connection)) => {
            // Whether it says good-bye in time does not matter.
            let _ = timeout(DIAGNOSIS, connection.close()).await;
            format!("no free connection in {} s", LIMIT.as_secs())
        }
        Ok(Err(SqlxError::Database(error))) => of_code(&*error),
        Ok(Err(_)) => "not reachable".to_owned(),
        Err(_) => no_answer(),
    }
}

fn reason(error: &SqlxError) -> String {
    match error {
        SqlxError::Database(error) => return of_code(&**error),
        SqlxError::Io(_) | SqlxError::Tls(_) | SqlxError::Protocol(_) => "not reachable",
        SqlxError::PoolTimedOut => "no free connection",
        SqlxError::PoolClosed => "the pool is closed",
        _ => "it cannot be written",
    }
    .to_owned()
}

/// PostgreSQL: manual, appendix A. SQLite: <https://sqlite.org/rescode.html>, whose extended codes end with the plain one.
fn of_code(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    let text = match &*code {
        "25006" => "read-only",
        "53100" => DISK_FULL,
        "53200" => "out of memory",
        "53300" => "no free connection: the server takes no more",
        "53400" => "a limit of the server is reached",
        LOCKED => "locked: another session holds a table or a row",
        "57014" => return no_answer(),
        "57P01" | "57P02" | "57P03" => "starting or stopping",
        "42501" => "no permission to write",
        "42P01" | "42703" => "a table or a column is missing",
        "28000" | "28P01" => "sign-in refused",
        "3D000" => "there is no such database",
        code if code.len() == 5 => return format!("it cannot be written (SQLSTATE {code})"),
        code => match code.parse::<u32>().map(|code| code & 0xff) {
            Ok(1) => "a table or a column is missing, or the statement is refused",
            Ok(5 | 6) => "locked by another process",
            Ok(8) => "read-only",
            Ok(10) => "the disk has an error",
            Ok(13) => DISK_FULL,
            Ok(14) => "the file cannot be opened",
            _ => return format!("it cannot be written (SQLite code {code})"),
        },
    };
    text.to_owned()
}
