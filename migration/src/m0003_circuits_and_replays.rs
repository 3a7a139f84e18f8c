//! Circuits, parked deliveries, limits of endpoints, expiry, and replay jobs.

use sea_orm_migration::{
    prelude::*,
    schema::{
        integer, integer_null, json_binary, text, text_null, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use crate::tables::{execute_all, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// What existing tables get. Each in a statement of its own: SQLite adds one column at a time.
fn columns() -> [(&'static str, ColumnDef); 11] {
    [
        ("deliveries", uuid_null("parked_for")),
        ("deliveries", timestamp_with_time_zone_null("expires_at")),
        ("deliveries", uuid_null("replay_id")),
        ("endpoints", integer_null("rate_limit_per_s")),
        ("endpoints", integer_null("max_in_flight")),
        ("endpoints", text_null("ordering")),
        ("endpoints", text("signing").default("hmac").to_owned()),
        (
            "event_types",
            integer("schema_version").default(1).to_owned(),
        ),
        ("messages", timestamp_with_time_zone_null("expires_at")),
        ("messages", timestamp_with_time_zone_null("cancelled_at")),
        ("tenants", timestamp_with_time_zone_null("dlq_warned_at")),
    ]
}

const INDEXES: &[&str] = &[
    // Like every index of `deliveries` it names no status: a delivery that succeeds at once is updated in place (HOT).
    "CREATE INDEX deliveries_parked ON deliveries (parked_for, id) WHERE parked_for IS NOT NULL",
    "CREATE INDEX deliveries_expiring ON deliveries (expires_at) WHERE expires_at IS NOT NULL AND parked_for IS NOT NULL",
    "CREATE INDEX circuits_release ON circuits (release_at) WHERE release_at IS NOT NULL",
    "CREATE INDEX circuits_tenant ON circuits (tenant_id)",
    "CREATE INDEX replays_tenant ON replays (tenant_id, id)",
    "CREATE INDEX replays_next ON replays (next_at) WHERE next_at IS NOT NULL",
];

const BEFORE_COLUMNS_GO: &[&str] = &[
    "DROP INDEX deliveries_expiring",
    "DROP INDEX deliveries_parked",
    // The schema before knows neither: what is parked is due now, and what was cancelled was given up.
    "UPDATE deliveries SET dispatch_at = COALESCE(next_attempt_at, created_at) WHERE parked_for IS NOT NULL",
    "UPDATE deliveries SET reason = 'rejected' WHERE reason IN ('expired', 'cancelled', 'payload_too_large')",
    "UPDATE deliveries SET error_class = 'protocol' WHERE error_class = 'body_too_large'",
    "UPDATE endpoints SET status = 'active' WHERE status = 'paused'",
];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in columns() {
            let mut change = Table::alter();
            change.table(Alias::new(table)).add_column(column);
            manager.alter_table(change).await?;
        }
        manager.create_table(circuits()).await?;
        manager.create_table(replays()).await?;
        execute_all(manager, INDEXES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["replays", "circuits"] {
            let mut gone = Table::drop();
            gone.table(Alias::new(table));
            manager.drop_table(gone).await?;
        }
        execute_all(manager, BEFORE_COLUMNS_GO).await?;
        for (table, column) in columns().iter().rev() {
            let mut change = Table::alter();
            change
                .table(Alias::new(*table))
                .drop_column(Alias::new(column.get_column_name()));
            manager.alter_table(change).await?;
        }
        Ok(())
    }
}

/// A row exists only for an endpoint or a mail provider that has had trouble, is paused, or delivers in order.
fn circuits() -> TableCreateStatement {
    table(
        "circuits",
        [
            uuid("id").primary_key().to_owned(),
            uuid_null("tenant_id"),
            text("state"),
            integer("failures"),
            integer("epoch"),
            integer("open_seconds"),
            timestamp_with_time_zone_null("opened_at"),
            timestamp_with_time_zone_null("retry_at"),
            integer("probes"),
            integer("successes"),
            timestamp_with_time_zone_null("failing_since"),
            timestamp_with_time_zone_null("failed_at"),
            integer("warned"),
            integer_null("pace"),
            timestamp_with_time_zone_null("pace_at"),
            timestamp_with_time_zone_null("release_at"),
            uuid_null("head"),
            uuid_null("settled"),
            json_binary("history"),
            timestamp_with_time_zone("updated_at"),
        ],
    )
}

fn replays() -> TableCreateStatement {
    table(
        "replays",
        [
            uuid("id").primary_key().to_owned(),
            uuid("tenant_id"),
            text("kind"),
            text("status"),
            json_binary("selection"),
            integer_null("rate_per_s"),
            integer("total"),
            integer("released"),
            integer("skipped"),
            integer("delivered"),
            integer("dead"),
            uuid_null("cursor"),
            uuid_null("message_cursor"),
            timestamp_with_time_zone("paced_from"),
            integer("paced_count"),
            timestamp_with_time_zone_null("next_at"),
            text("actor"),
            text("request_id"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("finished_at"),
        ],
    )
}
