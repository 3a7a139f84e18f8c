//! What `down` would do.

use std::{fmt, path::Path};

use anyhow::{Result, ensure};
use sea_orm_migration::{
    SchemaManager,
    sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, Statement},
};

use super::{
    losses::{self, Loss, Rows},
    sessions::Sessions,
};
use crate::state::State;

/// The migrations to take back, and the data that goes with them.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) database: String,
    /// The newest first.
    pub(super) steps: Vec<String>,
    losses: Vec<(Loss, Rows)>,
    pub(super) sessions: Sessions,
}

impl Plan {
    /// Looks at the database and changes nothing. `None` if no migration is applied.
    pub(super) async fn make(db: &DatabaseConnection, steps: u32) -> Result<Option<Self>> {
        let State { applied, newer, .. } = State::read(&SchemaManager::new(db)).await?;
        ensure!(
            newer.is_empty(),
            "a newer version of Relaypost has migrated this database, and only that version can take back {}; nothing was \
             changed",
            newer.join(", ")
        );
        if applied.is_empty() {
            return Ok(None);
        }
        let count = steps as usize;
        ensure!(
            count <= applied.len(),
            "--steps is {steps}, but the number of applied migrations is {}; nothing was changed",
            applied.len()
        );
        let mut losses = Vec::new();
        for loss in losses::of(applied.len(), count).await? {
            let rows = loss.rows(db).await?;
            losses.push((loss, rows));
        }
        Ok(Some(Self {
            database: name(db).await?,
            steps: applied.iter().rev().take(count).cloned().collect(),
            losses,
            sessions: Sessions::read(db).await?,
        }))
    }
}

/// What the database is called: on SQLite its file's name.
async fn name(db: &DatabaseConnection) -> Result<String, DbErr> {
    if db.get_database_backend() == DbBackend::Postgres {
        let sql = "SELECT CAST(current_database() AS text) AS name";
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let row = db.query_one_raw(statement).await?;
        return row.map_or_else(|| Ok(String::new()), |row| row.try_get("", "name"));
    }
    let options = db.get_sqlite_connection_pool().connect_options();
    let file: &Path = options.get_filename();
    let name = file.file_name().unwrap_or(file.as_os_str());
    Ok(name.to_string_lossy().into_owned())
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "database: {}", self.database)?;
        writeln!(f, "migrations to take back: {}", self.steps.join(", "))?;
        if self.losses.is_empty() {
            writeln!(f, "no table or column would be deleted")?;
        } else {
            writeln!(f, "data that would be deleted:")?;
        }
        for (loss, rows) in &self.losses {
            writeln!(f, "  {loss} ({rows})")?;
        }
        write!(f, "{}", self.sessions)
    }
}
