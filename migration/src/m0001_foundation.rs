//! The first tables. `docs/data-model.md` draws them and gives the query behind each index.
//!
//! Foreign keys stand between tables that change rarely. The tables that every message writes to (messages, emails,
//! deliveries, attempts) have none: each would lock a row of a tenant or an endpoint on every insert.

use sea_orm_migration::{
    prelude::*,
    schema::{
        binary, integer, integer_null, json_binary, json_binary_null, text, text_null,
        timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
    sea_orm::DbBackend,
};

use crate::tables::{execute_all, table};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// In the order in which they can be created; dropped the other way round.
const TABLES: &[&str] = &[
    "tenants",
    "api_keys",
    "endpoints",
    "endpoint_secrets",
    "event_types",
    "messages",
    "emails",
    "deliveries",
    "attempts",
    "idempotency_keys",
];

/// Indexes beyond the primary keys. Plain SQL, because sea-query has no partial indexes on both backends.
const INDEXES: &[&str] = &[
    "CREATE INDEX api_keys_tenant ON api_keys (tenant_id)",
    "CREATE INDEX endpoints_tenant ON endpoints (tenant_id, id)",
    "CREATE INDEX endpoint_secrets_endpoint ON endpoint_secrets (endpoint_id)",
    "CREATE UNIQUE INDEX event_types_name ON event_types (tenant_id, name)",
    "CREATE INDEX messages_tenant ON messages (tenant_id, id)",
    "CREATE INDEX emails_tenant ON emails (tenant_id, id)",
    "CREATE INDEX deliveries_tenant ON deliveries (tenant_id, id)",
    "CREATE INDEX deliveries_message ON deliveries (message_id) WHERE message_id IS NOT NULL",
    "CREATE INDEX deliveries_email ON deliveries (email_id) WHERE email_id IS NOT NULL",
    "CREATE INDEX deliveries_endpoint ON deliveries (endpoint_id, id) WHERE endpoint_id IS NOT NULL",
    // Neither column nor predicate names the status: a delivery that succeeds at once is updated in place (HOT).
    "CREATE INDEX deliveries_dispatch ON deliveries (dispatch_at) WHERE dispatch_at IS NOT NULL",
    "CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at)",
];

#[allow(
    elided_lifetimes_in_paths,
    reason = "async_trait needs the signatures as the trait wrote them"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in tables() {
            manager.create_table(table).await?;
        }
        execute_all(manager, INDEXES).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            // Every delivery is updated at least once: room on the page keeps that update in place.
            execute_all(manager, &["ALTER TABLE deliveries SET (fillfactor = 80)"]).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES.iter().rev() {
            manager
                .drop_table(
                    Table::drop()
                        .table(Alias::new(*table))
                        .if_exists()
                        .to_owned(),
                )
                .await?;
        }
        Ok(())
    }
}

fn references(table: &mut TableCreateStatement, column: &'static str, other: &'static str) {
    table.foreign_key(
        ForeignKey::create()
            .from_col(Alias::new(column))
            .to(Alias::new(other), Alias::new("id")),
    );
}

fn id() -> ColumnDef {
    uuid("id").primary_key().to_owned()
}

/// Every table, in the order in which they can be created.
fn tables() -> [TableCreateStatement; 10] {
    [
        tenants(),
        api_keys(),
        endpoints(),
        endpoint_secrets(),
        event_types(),
        messages(),
        emails(),
        deliveries(),
        attempts(),
        idempotency_keys(),
    ]
}

fn tenants() -> TableCreateStatement {
    table(
        "tenants",
        [id(), text("name"), timestamp_with_time_zone("created_at")],
    )
}

fn api_keys() -> TableCreateStatement {
    let mut table = table(
        "api_keys",
        [
            id(),
            uuid_null("tenant_id"),
            text("name"),
            text("prefix"),
            binary("secret_hash"),
            json_binary("scopes"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("expires_at"),
            timestamp_with_time_zone_null("revoked_at"),
            timestamp_with_time_zone_null("last_used_at"),
        ],
    );
    references(&mut table, "tenant_id", "tenants");
    table
}

fn endpoints() -> TableCreateStatement {
    let mut table = table(
        "endpoints",
        [
            id(),
            uuid("tenant_id"),
            text("url"),
            text_null("description"),
            json_binary("event_types"),
            json_binary("channels"),
            json_binary("headers"),
            integer_null("timeout_ms"),
            json_binary_null("retry_schedule"),
            text("status"),
            text_null("disabled_reason"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("updated_at"),
            timestamp_with_time_zone_null("deleted_at"),
        ],
    );
    references(&mut table, "tenant_id", "tenants");
    table
}

fn endpoint_secrets() -> TableCreateStatement {
    let mut table = table(
        "endpoint_secrets",
        [
            id(),
            uuid("tenant_id"),
            uuid("endpoint_id"),
            text("secret"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("expires_at"),
        ],
    );
    references(&mut table, "endpoint_id", "endpoints");
    table
}

fn event_types() -> TableCreateStatement {
    let mut table = table(
        "event_types",
        [
            id(),
            uuid("tenant_id"),
            text("name"),
            text_null("description"),
            json_binary_null("schema"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("archived_at"),
        ],
    );
    references(&mut table, "tenant_id", "tenants");
    table
}

fn idempotency_keys() -> TableCreateStatement {
    let mut table = table(
        "idempotency_keys",
        [
            uuid("tenant_id"),
            text("key"),
            binary("fingerprint"),
            binary("response"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("expires_at"),
        ],
    );
    table.primary_key(
        Index::create()
            .col(Alias::new("tenant_id"))
            .col(Alias::new("key")),
    );
    table
}

fn messages() -> TableCreateStatement {
    table(
        "messages",
        [
            id(),
            uuid("tenant_id"),
            text("event_type"),
            json_binary("channels"),
            binary("payload"),
            json_binary_null("metadata"),
            text("request_id"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("deliver_at"),
        ],
    )
}

fn emails() -> TableCreateStatement {
    table(
        "emails",
        [
            id(),
            uuid("tenant_id"),
            text("sender"),
            json_binary("to_recipients"),
            json_binary("cc_recipients"),
            json_binary("bcc_recipients"),
            text_null("reply_to"),
            text("subject"),
            text_null("text"),
            text_null("html"),
            json_binary("headers"),
            json_binary("tags"),
            text("request_id"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("send_at"),
        ],
    )
}

fn deliveries() -> TableCreateStatement {
    table(
        "deliveries",
        [
            id(),
            uuid("tenant_id"),
            text("kind"),
            uuid_null("message_id"),
            uuid_null("endpoint_id"),
            uuid_null("email_id"),
            text_null("recipient"),
            text("status"),
            integer("attempt_count"),
            timestamp_with_time_zone_null("next_attempt_at"),
            timestamp_with_time_zone_null("dispatch_at"),
            text_null("reason"),
            text_null("error_class"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("finished_at"),
        ],
    )
}

fn attempts() -> TableCreateStatement {
    let mut table = table(
        "attempts",
        [
            uuid("delivery_id"),
            integer("number"),
            uuid("id"),
            uuid("tenant_id"),
            timestamp_with_time_zone("started_at"),
            integer("duration_ms"),
            text("outcome"),
            text_null("error_class"),
            integer_null("http_status"),
            text_null("response_snippet"),
            text("request_id"),
        ],
    );
    table.primary_key(
        Index::create()
            .col(Alias::new("delivery_id"))
            .col(Alias::new("number")),
    );
    table
}
