//! A row for readiness probes to write, and an index of the circuits that are not closed.

use sea_orm_migration::{
    prelude::*,
    schema::{binary_null, small_integer, timestamp_with_time_zone},
};

use crate::tables::{execute_all, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// Health probes count them. A circuit's counts change with every failure and its state does not, so these changes stay in
/// place.
const INDEXES: &[&str] = &["CREATE INDEX circuits_open ON circuits (id) WHERE state <> 'closed'"];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            small_integer("id").primary_key().to_owned(),
            timestamp_with_time_zone("checked_at"),
            // SQLite only: a write as large as a message's.
            binary_null("filler"),
        ];
        manager.create_table(table("probes", columns)).await?;
        execute_all(manager, INDEXES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        execute_all(manager, &["DROP INDEX circuits_open"]).await?;
        let mut gone = Table::drop();
        gone.table(Alias::new("probes"));
        manager.drop_table(gone).await
    }
}
