//! The schema of version 0.1. `docs/data-model.md` draws the tables and gives the query behind each index.
//!
//! Foreign keys stand between tables that change rarely. The tables that every message writes to (messages, emails,
//! deliveries, attempts) have none: each would lock a row of a tenant or an endpoint on every insert.
//!
//! Indexes are plain SQL, because sea-query has no partial indexes on both backends. Storage settings, statistics and
//! triggers are for PostgreSQL alone: SQLite updates a row where it stands, compresses nothing, and has one process, which
//! keeps nothing in memory.

mod deliveries;
mod endpoints;
mod operations;
mod people;
mod tenants;

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::tables::{create, execute_all};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_initial"
    }
}

/// Tables that belong together, with what has to be done after they were created.
struct Group {
    /// In the order in which they can be created; they are dropped the other way round.
    tables: Vec<TableCreateStatement>,
    /// Indexes beyond the primary keys.
    indexes: &'static [&'static str],
    /// Statements for PostgreSQL alone.
    postgres: &'static [&'static str],
}

/// Every group, in the order in which they can be created.
fn groups() -> [Group; 5] {
    [
        tenants::group(),
        endpoints::group(),
        deliveries::group(),
        people::group(),
        operations::group(),
    ]
}

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for group in groups() {
            for table in group.tables {
                create(manager, &table).await?;
            }
            execute_all(manager, group.indexes).await?;
            if manager.get_database_backend() == DbBackend::Postgres {
                execute_all(manager, group.postgres).await?;
            }
        }
        manager.execute(tenants::own()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = groups().into_iter().flat_map(|group| group.tables);
        let mut names: Vec<TableRef> = tables
            .filter_map(|table| table.get_table_name().cloned())
            .collect();
        names.reverse();
        for name in names {
            let mut gone = Table::drop();
            manager.drop_table(gone.table(name).to_owned()).await?;
        }
        match manager.get_database_backend() {
            // Indexes, statistics and triggers go with their tables, the function of the triggers does not.
            DbBackend::Postgres => execute_all(manager, &[endpoints::DROP_FUNCTION]).await,
            _ => Ok(()),
        }
    }
}
