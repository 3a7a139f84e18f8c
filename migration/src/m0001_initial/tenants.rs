//! Tenants, their API keys, the answers that are remembered for their idempotency keys, and the audit log.

use relaypost_shared::ids::TenantId;
use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, binary, boolean, json_binary, text, text_null, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use super::Group;
use crate::tables::{id, key, references, table};

pub(super) fn group() -> Group {
    Group {
        tables: vec![tenants(), api_keys(), idempotency_keys(), audit_log()],
        indexes: &[
            "CREATE UNIQUE INDEX tenants_external_id ON tenants (external_id) WHERE external_id IS NOT NULL",
            "CREATE INDEX api_keys_tenant ON api_keys (tenant_id)",
            "CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at)",
            // Which keys have sealed something: `crate::sealed` asks at each start.
            "CREATE INDEX idempotency_keys_key ON idempotency_keys (substr(response, 9, 8)) WHERE sealed",
            "CREATE INDEX audit_log_tenant ON audit_log (tenant_id, id)",
        ],
        postgres: &[],
    }
}

/// The tenant of the mails that Relaypost itself sends to its users.
pub(super) fn own() -> InsertStatement {
    let mut insert = Query::insert();
    insert
        .into_table(Alias::new("tenants"))
        .columns(["id", "name", "created_at"].map(Alias::new))
        .values_panic([
            TenantId::OWN.uuid().into(),
            "Relaypost".into(),
            Expr::current_timestamp(),
        ]);
    insert
}

fn tenants() -> TableCreateStatement {
    table(
        "tenants",
        [
            id(),
            text_null("external_id"),
            text("name"),
            text("class").default("standard").to_owned(),
            text("email_on_uncertain").default("hold").to_owned(),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("dlq_warned_at"),
            // Counted by the trigger of `endpoints` and `event_types`.
            big_integer("catalog_edition").default(0).to_owned(),
        ],
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

fn idempotency_keys() -> TableCreateStatement {
    let mut table = table(
        "idempotency_keys",
        [
            uuid("tenant_id"),
            text("key"),
            binary("fingerprint"),
            boolean("sealed").default(false).to_owned(),
            binary("response"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("expires_at"),
        ],
    );
    key(&mut table, ["tenant_id", "key"]);
    table
}

fn audit_log() -> TableCreateStatement {
    table(
        "audit_log",
        [
            id(),
            uuid_null("tenant_id"),
            text("actor"),
            text("action"),
            text("target"),
            text_null("detail"),
            text_null("client_address"),
            text("request_id"),
            timestamp_with_time_zone("created_at"),
        ],
    )
}
