//! Dead letters that can be listed, replayed and discarded, and the audit log.

use sea_orm_migration::{
    prelude::*,
    schema::{
        integer, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use crate::tables::{execute_all, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// What a delivery gets. Each in a statement of its own: SQLite adds one column at a time.
fn columns() -> [ColumnDef; 3] {
    [
        timestamp_with_time_zone_null("dead_at"),
        timestamp_with_time_zone_null("replayed_at"),
        integer("schedule_start").default(0).to_owned(),
    ]
}

const AFTER_COLUMNS: &[&str] = &[
    "UPDATE deliveries SET dead_at = COALESCE(finished_at, created_at) WHERE status = 'dead'",
    // Like every index of this table it names no status: a delivery that succeeds at once is updated in place (HOT).
    "CREATE INDEX deliveries_dead ON deliveries (tenant_id, id) WHERE dead_at IS NOT NULL",
    // The dispatcher looks for live work without a look at the replays that wait.
    "DROP INDEX deliveries_dispatch",
    "CREATE INDEX deliveries_dispatch ON deliveries (dispatch_at) WHERE dispatch_at IS NOT NULL AND replayed_at IS NULL",
    "CREATE INDEX deliveries_bulk ON deliveries (dispatch_at) WHERE dispatch_at IS NOT NULL AND replayed_at IS NOT NULL",
];

const BEFORE_COLUMNS_GO: &[&str] = &[
    "DROP INDEX deliveries_bulk",
    "DROP INDEX deliveries_dispatch",
    "CREATE INDEX deliveries_dispatch ON deliveries (dispatch_at) WHERE dispatch_at IS NOT NULL",
    "DROP INDEX deliveries_dead",
    // The schema before knows no other state for it.
    "UPDATE deliveries SET status = 'dead' WHERE status = 'discarded'",
];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in columns() {
            let mut change = Table::alter();
            change.table(Alias::new("deliveries")).add_column(column);
            manager.alter_table(change).await?;
        }
        execute_all(manager, AFTER_COLUMNS).await?;
        manager.create_table(audit_log()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut gone = Table::drop();
        gone.table(Alias::new("audit_log"));
        manager.drop_table(gone).await?;
        execute_all(manager, BEFORE_COLUMNS_GO).await?;
        for column in ["schedule_start", "replayed_at", "dead_at"] {
            let mut change = Table::alter();
            change
                .table(Alias::new("deliveries"))
                .drop_column(Alias::new(column));
            manager.alter_table(change).await?;
        }
        Ok(())
    }
}

fn audit_log() -> TableCreateStatement {
    table(
        "audit_log",
        [
            uuid("id").primary_key().to_owned(),
            uuid_null("tenant_id"),
            text("actor"),
            text("action"),
            text("target"),
            text("request_id"),
            timestamp_with_time_zone("created_at"),
        ],
    )
}
