//! Room for updates in place, and a faster compression of what is large. `docs/performance.md` has the figures.
//!
//! SQLite updates a row where it stands and compresses nothing, so there is nothing to do for it.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::tables::execute_all;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// Pages that are there already keep what they hold; they count for what is written from now on.
const UP: &[&str] = &[
    // A batch ends all deliveries of a page in one transaction, so the page needs room for a second version of every one
    // of them: only then are they updated in place (HOT). The second one is longer by `finished_at`.
    "ALTER TABLE deliveries SET (fillfactor = 48)",
    // Few rows, each written again and again.
    "ALTER TABLE circuits SET (fillfactor = 50)",
    "ALTER TABLE replays SET (fillfactor = 50)",
    // PostgreSQL's own compression takes 70 µs for a payload of 4 kB, LZ4 20 µs for the same size. Not every server has it
    // (PostgreSQL 14, and built with it).
    "DO $$ BEGIN \
     EXECUTE 'ALTER TABLE messages ALTER COLUMN payload SET COMPRESSION lz4'; \
     EXECUTE 'ALTER TABLE emails ALTER COLUMN text SET COMPRESSION lz4, ALTER COLUMN html SET COMPRESSION lz4'; \
     EXCEPTION WHEN feature_not_supported OR syntax_error THEN NULL; END $$",
    // An endpoint has one tenant, which PostgreSQL cannot know: it takes what both name for next to nothing, and sorts all
    // of an endpoint's deliveries for a page of them.
    "CREATE STATISTICS deliveries_owner (dependencies) ON tenant_id, endpoint_id FROM deliveries",
];

const DOWN: &[&str] = &[
    "DROP STATISTICS deliveries_owner",
    "DO $$ BEGIN \
     EXECUTE 'ALTER TABLE messages ALTER COLUMN payload SET COMPRESSION default'; \
     EXECUTE 'ALTER TABLE emails ALTER COLUMN text SET COMPRESSION default, ALTER COLUMN html SET COMPRESSION default'; \
     EXCEPTION WHEN feature_not_supported OR syntax_error THEN NULL; END $$",
    "ALTER TABLE replays RESET (fillfactor)",
    "ALTER TABLE circuits RESET (fillfactor)",
    "ALTER TABLE deliveries SET (fillfactor = 80)",
];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, DOWN).await
    }
}

async fn on_postgres(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    match manager.get_database_backend() {
        DbBackend::Postgres => execute_all(manager, statements).await,
        _ => Ok(()),
    }
}
