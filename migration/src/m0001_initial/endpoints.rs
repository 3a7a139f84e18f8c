//! Endpoints, their secrets and circuits, and event types.

use sea_orm_migration::{
    prelude::*,
    schema::{
        integer, integer_null, json_binary, json_binary_null, text, text_null,
        timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use super::Group;
use crate::tables::{id, references, table};

pub(super) const DROP_FUNCTION: &str = "DROP FUNCTION catalog_changed";

pub(super) fn group() -> Group {
    Group {
        tables: vec![endpoints(), endpoint_secrets(), event_types(), circuits()],
        indexes: INDEXES,
        postgres: POSTGRES,
    }
}

const INDEXES: &[&str] = &[
    "CREATE INDEX endpoints_tenant ON endpoints (tenant_id, id)",
    // A deleted endpoint keeps its row, and its external id is free.
    "CREATE UNIQUE INDEX endpoints_external_id ON endpoints (tenant_id, external_id) \
     WHERE external_id IS NOT NULL AND deleted_at IS NULL",
    "CREATE INDEX endpoint_secrets_endpoint ON endpoint_secrets (endpoint_id)",
    "CREATE UNIQUE INDEX event_types_name ON event_types (tenant_id, name)",
    "CREATE INDEX circuits_release ON circuits (release_at) WHERE release_at IS NOT NULL",
    "CREATE INDEX circuits_tenant ON circuits (tenant_id)",
    // Health probes count them. A circuit's counts change with every failure and its state does not, so these changes stay
    // in place.
    "CREATE INDEX circuits_open ON circuits (id) WHERE state <> 'closed'",
    // Which keys have sealed something: `crate::sealed` asks at each start. They hold only what is sealed.
    "CREATE INDEX endpoint_secrets_key ON endpoint_secrets (substr(secret, 9, 8)) \
     WHERE substr(secret, 1, 8) = 'sealed1.'",
    "CREATE INDEX endpoints_key ON endpoints (substr(headers->0->>1, 9, 8)) \
     WHERE substr(headers->0->>1, 1, 8) = 'sealed1.'",
];

const POSTGRES: &[&str] = &[
    // Few rows, each written again and again: room on the page keeps the updates in place (HOT).
    "ALTER TABLE circuits SET (fillfactor = 50)",
    // Which edition of a tenant's endpoints and event types is in force, so that a process may keep them in memory and still
    // never go by an old one. A trigger, and no code at each place that changes something: one that is forgotten would lose
    // messages. Columns that say nothing about which endpoints get a message are left out. It counts at the commit, so that
    // a long transaction does not hold the tenant's row meanwhile.
    "CREATE FUNCTION catalog_changed() RETURNS trigger LANGUAGE plpgsql AS $$ \
     BEGIN \
       IF TG_OP = 'DELETE' THEN \
         UPDATE tenants SET catalog_edition = catalog_edition + 1 WHERE id = OLD.tenant_id; \
       ELSE \
         UPDATE tenants SET catalog_edition = catalog_edition + 1 WHERE id = NEW.tenant_id; \
       END IF; \
       RETURN NULL; \
     END $$",
    "CREATE CONSTRAINT TRIGGER catalog_changed AFTER INSERT OR DELETE OR UPDATE OF event_types, channels, status, deleted_at \
     ON endpoints DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_changed()",
    "CREATE CONSTRAINT TRIGGER catalog_changed AFTER INSERT OR DELETE OR UPDATE OF name, schema_version, archived_at \
     ON event_types DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION catalog_changed()",
];

fn endpoints() -> TableCreateStatement {
    let mut table = table(
        "endpoints",
        [
            id(),
            uuid("tenant_id"),
            text_null("external_id"),
            text("url"),
            text_null("description"),
            json_binary("event_types"),
            json_binary("channels"),
            json_binary("headers"),
            integer_null("timeout_ms"),
            json_binary_null("retry_schedule"),
            integer_null("rate_limit_per_s"),
            integer_null("max_in_flight"),
            text_null("ordering"),
            text("signing").default("hmac").to_owned(),
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
            integer("schema_version").default(1).to_owned(),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("archived_at"),
        ],
    );
    references(&mut table, "tenant_id", "tenants");
    table
}

/// A row exists only for an endpoint or a mail provider that has had trouble, is paused, or delivers in order.
fn circuits() -> TableCreateStatement {
    table(
        "circuits",
        [
            id(),
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
