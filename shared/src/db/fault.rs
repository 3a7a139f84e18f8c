//! Errors of the database: whose fault they are.

use sea_orm::{
    DbErr, RuntimeErr,
    sqlx::{self, Error as SqlxError},
};

/// An error of the driver, as the ORM would say it.
pub fn driver_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

/// Whether the database cannot be reached or is too busy: nothing about the statement itself, which may be tried again as
/// it is.
pub fn is_unavailable(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(driver)) | DbErr::Query(RuntimeErr::SqlxError(driver))) =
        error
    else {
        return matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_));
    };
    match &**driver {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::Protocol(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => true,
        SqlxError::Database(error) => error.code().is_some_and(|code| is_passing(&code)),
        _ => false,
    }
}

/// Error codes of the database that pass. PostgreSQL (manual, appendix A): connection faults, a role or database that is
/// refused, out of resources, shutting down, serialization and deadlock, read-only during a failover. SQLite: busy and
/// locked.
fn is_passing(code: &str) -> bool {
    let class = code.get(..2).filter(|_| code.len() == 5);
    let postgres = class.is_some_and(|class| ["08", "28", "3D", "53", "57"].contains(&class))
        || ["40001", "40P01", "25006"].contains(&code);
    postgres || ["5", "6", "261", "517", "773"].contains(&code)
}
