//! Other sessions on the same PostgreSQL database.

use std::{fmt, time::Duration};

use relaypost_shared::db::APPLICATION;
use sea_orm_migration::sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement,
};
use tokio::time::{Instant, sleep};

/// How long the server may need to notice that a process has ended.
const LINGER: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

/// Sessions beside our own, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions(Vec<Session>);

#[derive(Clone, Debug)]
struct Session {
    process: i32,
    application: String,
    client: String,
}

impl Sessions {
    /// Reads them. SQLite does not know who has a file open: there are none.
    pub(super) async fn read(db: &DatabaseConnection) -> Result<Self, DbErr> {
        if db.get_database_backend() != DbBackend::Postgres {
            return Ok(Self::default());
        }
        let deadline = Instant::now() + LINGER;
        loop {
            let sessions = Self::read_once(db).await?;
            if sessions.0.is_empty() || Instant::now() >= deadline {
                return Ok(sessions);
            }
            sleep(POLL).await;
        }
    }

    async fn read_once(db: &DatabaseConnection) -> Result<Self, DbErr> {
        // Other roles' sessions show no backend type to a role without pg_read_all_stats.
        let sql = "SELECT pid, coalesce(application_name, '') AS application, \
                   coalesce(host(client_addr), 'an unknown or local address') AS client \
                   FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid() \
                   AND coalesce(backend_type, 'client backend') = 'client backend' \
                   ORDER BY backend_start, pid";
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let rows = db.query_all_raw(statement).await?;
        let sessions = rows.iter().map(Session::from_row);
        Ok(Self(sessions.collect::<Result<_, _>>()?))
    }

    /// Whether one of them is a process of Relaypost.
    pub(super) fn is_of_relaypost(&self) -> bool {
        let mut applications = self.0.iter().map(|session| &session.application);
        applications.any(|application| application == APPLICATION)
    }
}

impl Session {
    fn from_row(row: &QueryResult) -> Result<Self, DbErr> {
        Ok(Self {
            process: row.try_get("", "pid")?,
            application: row.try_get("", "application")?,
            client: row.try_get("", "client")?,
        })
    }
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(f, "warning: other sessions use this database:")?;
        for Session {
            process,
            application,
            client,
        } in &self.0
        {
            let name = match application.as_str() {
                "" => "no application name",
                name => name,
            };
            writeln!(f, "  {name}, from {client}, server process {process}")?;
        }
        Ok(())
    }
}
