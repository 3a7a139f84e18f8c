//! Messages with their payloads, emails with their texts, deliveries and attempts, and replay jobs.

use sea_orm_migration::{
    prelude::*,
    schema::{
        binary, boolean, integer, integer_null, json_binary, json_binary_null, text, text_null,
        timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

use super::Group;
use crate::tables::{id, key, table};

pub(super) fn group() -> Group {
    Group {
        tables: vec![
            messages(),
            message_payloads(),
            emails(),
            email_bodies(),
            deliveries(),
            attempts(),
            replays(),
        ],
        indexes: INDEXES,
        postgres: POSTGRES,
    }
}

/// No index of `deliveries` names the status in a column or a predicate: a delivery that succeeds at once is updated in
/// place (HOT).
const INDEXES: &[&str] = &[
    "CREATE INDEX messages_tenant ON messages (tenant_id, id)",
    "CREATE INDEX emails_tenant ON emails (tenant_id, id)",
    // Which keys have sealed something: `crate::sealed` asks at each start.
    "CREATE INDEX email_bodies_key ON email_bodies (substr(coalesce(text, html), 9, 8)) WHERE sealed",
    "CREATE INDEX deliveries_tenant ON deliveries (tenant_id, id)",
    "CREATE INDEX deliveries_message ON deliveries (message_id) WHERE message_id IS NOT NULL",
    "CREATE INDEX deliveries_email ON deliveries (email_id) WHERE email_id IS NOT NULL",
    "CREATE INDEX deliveries_endpoint ON deliveries (endpoint_id, id) WHERE endpoint_id IS NOT NULL",
    // The dispatcher looks for live work without passing the replays that wait.
    "CREATE INDEX deliveries_dispatch ON deliveries (dispatch_at) WHERE dispatch_at IS NOT NULL AND replayed_at IS NULL",
    "CREATE INDEX deliveries_bulk ON deliveries (dispatch_at) WHERE dispatch_at IS NOT NULL AND replayed_at IS NOT NULL",
    "CREATE INDEX deliveries_dead ON deliveries (tenant_id, id) WHERE dead_at IS NOT NULL",
    "CREATE INDEX deliveries_parked ON deliveries (parked_for, id) WHERE parked_for IS NOT NULL",
    "CREATE INDEX deliveries_expiring ON deliveries (expires_at) WHERE expires_at IS NOT NULL AND parked_for IS NOT NULL",
    "CREATE INDEX replays_tenant ON replays (tenant_id, id)",
    "CREATE INDEX replays_next ON replays (next_at) WHERE next_at IS NOT NULL",
];

/// `docs/performance.md` has the figures.
const POSTGRES: &[&str] = &[
    // Few rows, each written again and again.
    "ALTER TABLE replays SET (fillfactor = 50)",
    // PostgreSQL's own compression takes 70 µs for a payload of 4 kB, LZ4 20 µs for the same size. Not every server has it
    // (PostgreSQL 14, and built with it).
    "DO $$ BEGIN \
     EXECUTE 'ALTER TABLE message_payloads ALTER COLUMN payload SET COMPRESSION lz4'; \
     EXECUTE 'ALTER TABLE email_bodies ALTER COLUMN text SET COMPRESSION lz4, ALTER COLUMN html SET COMPRESSION lz4'; \
     EXCEPTION WHEN feature_not_supported OR syntax_error THEN NULL; END $$",
    // An endpoint has one tenant, which PostgreSQL cannot know: it takes what both name for next to nothing, and sorts all
    // of an endpoint's deliveries for a page of them.
    "CREATE STATISTICS deliveries_owner (dependencies) ON tenant_id, endpoint_id FROM deliveries",
];

fn messages() -> TableCreateStatement {
    table(
        "messages",
        [
            id(),
            uuid("tenant_id"),
            text("event_type"),
            json_binary("channels"),
            json_binary_null("metadata"),
            text_null("ordering_key"),
            text("request_id"),
            text_null("traceparent"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("deliver_at"),
            timestamp_with_time_zone_null("expires_at"),
            timestamp_with_time_zone_null("cancelled_at"),
        ],
    )
}

/// Apart from the messages, because payloads are kept for a shorter time.
fn message_payloads() -> TableCreateStatement {
    table(
        "message_payloads",
        [
            uuid("message_id").primary_key().to_owned(),
            binary("payload"),
        ],
    )
}

/// Apart from the emails, because their texts are kept for a shorter time.
fn email_bodies() -> TableCreateStatement {
    table(
        "email_bodies",
        [
            uuid("email_id").primary_key().to_owned(),
            boolean("sealed").default(false).to_owned(),
            text_null("text"),
            text_null("html"),
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
            timestamp_with_time_zone_null("dead_at"),
            timestamp_with_time_zone_null("replayed_at"),
            integer("schedule_start").default(0).to_owned(),
            uuid_null("parked_for"),
            // No index names these two, so that they are written in place (HOT) together with `parked_for`.
            text_null("parked_reason"),
            timestamp_with_time_zone_null("parked_at"),
            timestamp_with_time_zone_null("expires_at"),
            uuid_null("replay_id"),
            // The mark of a mail whose content is being handed over. It is set and cleared in place (HOT).
            uuid_null("sending_token"),
            timestamp_with_time_zone_null("sending_at"),
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
    key(&mut table, ["delivery_id", "number"]);
    table
}

fn replays() -> TableCreateStatement {
    table(
        "replays",
        [
            id(),
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
