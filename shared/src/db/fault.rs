//! Errors of the database: whose fault they are, and what has to happen next.

use std::io;

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, Error as SqlxError, error::DatabaseError, sqlite::SqliteError},
};

/// PostgreSQL's code for a row that a check, or the bounds of a partition, do not allow.
const CHECK: &str = "23514";

/// An error of the driver, as the ORM would say it.
pub fn driver_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

/// Whether the database cannot be reached, is too busy, or has no room: nothing about the statement itself, which may be
/// tried again as it is.
pub fn is_unavailable(error: &DbErr) -> bool {
    match driver(error) {
        None => matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_)),
        Some(
            SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::Protocol(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed
            | SqlxError::BeginFailed,
        ) => true,
        Some(SqlxError::Database(error)) => {
            let class = Class::of(error.as_ref());
            !matches!(class, Class::Statement | Class::Broken)
        }
        Some(_) => false,
    }
}

/// Whether the database refuses what is right: a table, a column or a permission is missing, a trigger or its storage
/// fails. No other request can do better about it, but an operator can. It may concern a single row all the same.
pub fn is_broken(error: &DbErr) -> bool {
    class(error) == Some(Class::Broken)
}

/// Whether a row has no place because its week has no partition yet.
pub fn lacks_partition(error: &DbErr) -> bool {
    match driver(error) {
        Some(SqlxError::Database(error)) => is_out_of_bounds(error.as_ref()),
        _ => false,
    }
}

/// Whether a row is outside the bounds of every partition. A check has a name; these bounds have none.
fn is_out_of_bounds(error: &dyn DatabaseError) -> bool {
    error.code().as_deref() == Some(CHECK) && error.constraint().is_none()
}

/// Whether the disk of the database is full: nothing can be stored until somebody makes room.
pub fn is_full(error: &DbErr) -> bool {
    class(error) == Some(Class::Full)
}

/// Whether the statement may have taken effect all the same: it was sent, and its answer was lost.
pub fn is_outcome_unknown(error: &DbErr) -> bool {
    match driver(error) {
        Some(SqlxError::Io(error)) => error.kind() != io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

/// Whether the session is of no use any more although it still answers: it is read-only, its prepared statements hold no
/// longer, the server shuts down, or the file could not be read or written. Another session may do better.
pub(super) fn ends_session(error: &DbErr) -> bool {
    matches!(class(error), Some(Class::Full | Class::Session))
}

/// Whether no connection came free in time.
pub(super) fn is_pool_timeout(error: &DbErr) -> bool {
    let acquire = matches!(error, DbErr::ConnectionAcquire(_));
    acquire || matches!(driver(error), Some(SqlxError::PoolTimedOut))
}

fn driver(error: &DbErr) -> Option<&SqlxError> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(driver))
        | DbErr::Query(RuntimeErr::SqlxError(driver))
        | DbErr::Conn(RuntimeErr::SqlxError(driver)) => Some(driver),
        _ => None,
    }
}

fn class(error: &DbErr) -> Option<Class> {
    match driver(error)? {
        SqlxError::Database(error) => Some(Class::of(error.as_ref())),
        _ => None,
    }
}

/// What an error of the database means for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// It is about the statement. The same statement fails again.
    Statement,
    /// It is about the schema, a permission, a trigger or the storage. It fails until an operator has mended that.
    Broken,
    /// It passes.
    Passing,
    /// It passes, but not on this session.
    Session,
    /// The disk is full.
    Full,
}

impl Class {
    fn of(error: &dyn DatabaseError) -> Self {
        let Some(code) = error.code() else {
            return Self::Statement;
        };
        // The week of a row has no partition yet: one is made soon.
        if is_out_of_bounds(error) {
            return Self::Passing;
        }
        if error.try_downcast_ref::<SqliteError>().is_some() {
            return code.parse().map_or(Self::Statement, Self::of_sqlite);
        }
        Self::of_postgres(&code)
    }

    /// Classes of PostgreSQL's manual, appendix A: connection faults, a role or database that is refused, out of
    /// resources, shutting down, serialization, deadlock and a lock that was not free in time, read-only during a failover; a
    /// prepared statement that does not fit the schema any more (0A000) or that the server does not know (26000), as behind a pooler; what no value of a
    /// request can cause: syntax, schema and permissions (42), PL/pgSQL (P0), errors of the system (58) and internal ones (XX).
    fn of_postgres(code: &str) -> Self {
        match code {
            "53100" => Self::Full,
            "0A000" | "25006" | "26000" | "57P01" | "57P02" | "57P03" => Self::Session,
            "40001" | "40P01" | "55P03" => Self::Passing,
            _ => match code.get(..2) {
                Some("08" | "28" | "3D" | "53" | "57") => Self::Passing,
                Some("42" | "58" | "P0" | "XX") => Self::Broken,
                _ => Self::Statement,
            },
        }
    }

    /// Result codes of <https://www.sqlite.org/rescode.html>; the low byte of an extended code is the primary one.
    const fn of_sqlite(code: i32) -> Self {
        match code & 0xff {
            // ERROR, of which a missing table is one; INTERNAL, PERM
            1..=3 => Self::Broken,
            // BUSY, LOCKED
            5 | 6 => Self::Passing,
            // READONLY, IOERR, CORRUPT, CANTOPEN, NOTADB
            8 | 10 | 11 | 14 | 26 => Self::Session,
            // FULL
            13 => Self::Full,
            _ => Self::Statement,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_read_only_session_are_told_from_what_only_passes() {
        assert_eq!(Class::of_postgres("53100"), Class::Full);
        for session in ["25006", "0A000", "26000"] {
            assert_eq!(Class::of_postgres(session), Class::Session, "{session}");
        }
        assert_eq!(Class::of_postgres("57014"), Class::Passing);
        assert_eq!(Class::of_postgres("53300"), Class::Passing);
        assert_eq!(Class::of_postgres("55P03"), Class::Passing);
        assert_eq!(Class::of_postgres("23505"), Class::Statement);
        assert_eq!(Class::of_postgres("22P05"), Class::Statement);
        for broken in ["42501", "42P01", "42703", "58030", "P0001", "XX001"] {
            assert_eq!(Class::of_postgres(broken), Class::Broken, "{broken}");
        }
        assert_eq!(Class::of_sqlite(1), Class::Broken, "no such table");
        assert_eq!(Class::of_sqlite(13), Class::Full);
        assert_eq!(Class::of_sqlite(778), Class::Session, "IOERR_WRITE");
        assert_eq!(Class::of_sqlite(261), Class::Passing, "BUSY_RECOVERY");
        assert_eq!(Class::of_sqlite(2067), Class::Statement, "a unique index");
    }
}
