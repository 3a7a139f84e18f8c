//! The tables and columns that go away with migrations, and how many rows they have.

use std::{collections::BTreeSet, fmt};

use sea_orm_migration::{
    MigratorTrait,
    sea_orm::{
        ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr,
        Statement,
    },
};
use tracing::{instrument::WithSubscriber as _, subscriber::NoSubscriber};

use crate::Migrator;

/// Tables with more rows are not counted to the end.
const COUNTED: u64 = 100_000;

/// A table, or a column of a table that stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Loss {
    table: String,
    column: Option<String>,
}

/// How many rows a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    Exactly(u64),
    /// As PostgreSQL's planner estimates it.
    About(u64),
    MoreThan(u64),
    /// The database does not have the table.
    None,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            None => write!(f, "table {}", self.table),
            Some(column) => write!(f, "column {}.{column}", self.table),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(1) => write!(f, "1 row"),
            Self::Exactly(rows) => write!(f, "{rows} rows"),
            Self::About(rows) => write!(f, "about {rows} rows, by the planner's statistics"),
            Self::MoreThan(rows) => write!(f, "more than {rows} rows"),
            Self::None => write!(f, "not there"),
        }
    }
}

/// What taking back the newest `steps` of the first `applied` migrations removes.
///
/// The migrations run on an empty SQLite database in memory, before and after: the answer is that of the code that will
/// run, and the real database is not locked for it. Both databases have the same tables and columns.
pub(super) async fn of(applied: usize, steps: usize) -> Result<Vec<Loss>, DbErr> {
    let mut options = ConnectOptions::new("sqlite::memory:");
    options.max_connections(1).sqlx_logging(false);
    let removed = removed::<Migrator>(options, applied as u32, steps as u32);
    // Its log would read as if the real database were migrated.
    removed.with_subscriber(NoSubscriber::default()).await
}

async fn removed<M: MigratorTrait>(
    options: ConnectOptions,
    applied: u32,
    steps: u32,
) -> Result<Vec<Loss>, DbErr> {
    let scratch = Database::connect(options).await?;
    M::up(&scratch, Some(applied)).await?;
    let before = columns(&scratch).await?;
    M::down(&scratch, Some(steps)).await?;
    let after = columns(&scratch).await?;
    scratch.close().await?;
    let left: BTreeSet<&String> = after.iter().map(|(table, _)| table).collect();
    let gone = before.difference(&after).map(|(table, column)| Loss {
        column: left.contains(table).then(|| column.clone()),
        table: table.clone(),
    });
    Ok(gone.collect::<BTreeSet<_>>().into_iter().collect())
}

async fn columns(scratch: &DatabaseConnection) -> Result<BTreeSet<(String, String)>, DbErr> {
    let sql = "SELECT t.name AS table_name, c.name AS column_name \
               FROM sqlite_master t JOIN pragma_table_info(t.name) c \
               WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'";
    let statement = Statement::from_string(DbBackend::Sqlite, sql);
    let rows = scratch.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            Ok((
                row.try_get("", "table_name")?,
                row.try_get("", "column_name")?,
            ))
        })
        .collect()
}

impl Loss {
    /// The rows of its table. At most 100,000 are read, so that the answer comes as quickly for a table of 50 million.
    pub(super) async fn rows(&self, db: &DatabaseConnection) -> Result<Rows, DbErr> {
        let table = &self.table;
        let backend = db.get_database_backend();
        if !has_table(db, table).await? {
            return Ok(Rows::None);
        }
        let sql = format!(
            "SELECT count(*) AS rows FROM (SELECT 1 FROM {table} LIMIT {}) AS counted",
            COUNTED + 1
        );
        let row = db
            .query_one_raw(Statement::from_string(backend, sql))
            .await?;
        let counted: i64 = row.map_or(Ok(0), |row| row.try_get("", "rows"))?;
        let counted = u64::try_from(counted).unwrap_or(0);
        if counted <= COUNTED {
            return Ok(Rows::Exactly(counted));
        }
        if backend == DbBackend::Postgres {
            // The planner's estimate follows the table's size, and adds up partitions.
            let sql = format!("EXPLAIN (FORMAT JSON) SELECT 1 FROM {table}");
            let row = db
                .query_one_raw(Statement::from_string(backend, sql))
                .await?;
            let plan: Option<serde_json::Value> =
                row.map(|row| row.try_get_by_index(0)).transpose()?;
            let rows = plan.and_then(|plan| plan[0]["Plan"]["Plan Rows"].as_f64());
            if let Some(rows) = rows.filter(|rows| *rows > COUNTED as f64) {
                return Ok(Rows::About(rows as u64));
            }
        }
        Ok(Rows::MoreThan(COUNTED))
    }
}

async fn has_table(db: &DatabaseConnection, table: &str) -> Result<bool, DbErr> {
    sea_orm_migration::SchemaManager::new(db)
        .has_table(table)
        .await
}

#[cfg(test)]
mod tests {
    use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager};

    use super::*;

    /// Two migrations: the first makes tables, the second adds to one of them and makes another.
    #[derive(Debug)]
    struct Two;

    impl MigratorTrait for Two {
        fn migrations() -> Vec<Box<dyn MigrationTrait>> {
            let first = Statements {
                name: "m1",
                up: &[
                    "CREATE TABLE shelves (id int)",
                    "CREATE TABLE books (id int)",
                ],
                down: &["DROP TABLE books", "DROP TABLE shelves"],
            };
            let second = Statements {
                name: "m2",
                up: &[
                    "ALTER TABLE books ADD COLUMN title text",
                    "CREATE TABLE readers (id int, name text)",
                ],
                down: &["DROP TABLE readers", "ALTER TABLE books DROP COLUMN title"],
            };
            vec![Box::new(first), Box::new(second)]
        }
    }

    struct Statements {
        name: &'static str,
        up: &'static [&'static str],
        down: &'static [&'static str],
    }

    impl MigrationName for Statements {
        fn name(&self) -> &str {
            self.name
        }
    }

    #[allow(
        elided_lifetimes_in_paths,
        reason = "async_trait needs the signatures as the trait wrote them"
    )]
    #[async_trait::async_trait]
    impl MigrationTrait for Statements {
        async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
            crate::tables::execute_all(manager, self.up).await
        }

        async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
            crate::tables::execute_all(manager, self.down).await
        }
    }

    async fn lost(steps: u32) -> Vec<String> {
        let mut options = ConnectOptions::new("sqlite::memory:");
        options.max_connections(1);
        let losses = removed::<Two>(options, 2, steps).await.unwrap();
        losses.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn a_column_of_a_table_that_stays_and_a_table_that_goes_are_named() {
        assert_eq!(lost(1).await, ["column books.title", "table readers"]);
        assert_eq!(
            lost(2).await,
            ["table books", "table readers", "table shelves"]
        );
    }
}
