//! The columns that [`super::at_once`] writes, and the text of its statements.
//!
//! Only what can differ between new rows is sent, as one array for each column. Every column of the entities is named here,
//! or in the list of those that a new row leaves null.

use std::sync::LazyLock;

use super::keys::OVERWRITE;
use crate::ids::TenantId;

/// One column of an insert.
struct Column {
    name: &'static str,
    value: Value,
}

/// The values of a column.
enum Value {
    /// An array of this type.
    Array(&'static str),
    /// An array of texts that are JSON.
    Json,
    /// The same expression for every row.
    Is(&'static str),
    /// An array of this type, which decides whether the row is stored and is no column of the table.
    Aside(&'static str),
}

const fn array(name: &'static str, kind: &'static str) -> Column {
    let value = Value::Array(kind);
    Column { name, value }
}

const fn json(name: &'static str) -> Column {
    let value = Value::Json;
    Column { name, value }
}

const fn is(name: &'static str, expression: &'static str) -> Column {
    let value = Value::Is(expression);
    Column { name, value }
}

/// The tenant of a row whose table does not name it.
const TENANT: Column = Column {
    name: "tenant_id",
    value: Value::Aside("uuid"),
};

const MESSAGE: &[Column] = &[
    array("id", "uuid"),
    array("tenant_id", "uuid"),
    array("event_type", "text"),
    json("channels"),
    json("metadata"),
    array("request_id", "text"),
    array("created_at", "timestamptz"),
    array("deliver_at", "timestamptz"),
    array("expires_at", "timestamptz"),
];

const EMAIL: &[Column] = &[
    array("id", "uuid"),
    array("tenant_id", "uuid"),
    array("sender", "text"),
    json("to_recipients"),
    json("cc_recipients"),
    json("bcc_recipients"),
    array("reply_to", "text"),
    array("subject", "text"),
    json("headers"),
    json("tags"),
    array("request_id", "text"),
    array("created_at", "timestamptz"),
    array("send_at", "timestamptz"),
];

const PAYLOAD: &[Column] = &[
    array("message_id", "uuid"),
    TENANT,
    array("payload", "bytea"),
];

const EMAIL_BODY: &[Column] = &[
    array("email_id", "uuid"),
    TENANT,
    array("sealed", "bool"),
    array("text", "text"),
    array("html", "text"),
];

/// The columns of a new delivery; `more` are those of its kind, with its content and its target at the end.
const DELIVERY: &[Column] = &[
    array("id", "uuid"),
    array("tenant_id", "uuid"),
    array("next_attempt_at", "timestamptz"),
    array("created_at", "timestamptz"),
    array("expires_at", "timestamptz"),
    is("status", "'pending'"),
    is("attempt_count", "0"),
    is("dispatch_at", "next_attempt_at"),
    is("schedule_start", "0"),
];

const OF_MESSAGE: &[Column] = &[
    is("kind", "'webhook'"),
    array("message_id", "uuid"),
    array("endpoint_id", "uuid"),
];

const OF_EMAIL: &[Column] = &[
    is("kind", "'email'"),
    array("email_id", "uuid"),
    array("recipient", "text"),
];

/// The statement that stores messages. Its parameters are bound by [`super::at_once::at_once`].
pub(super) static MESSAGES: LazyLock<String> = LazyLock::new(|| {
    statement(
        [("messages", MESSAGE), ("message_payloads", PAYLOAD)],
        OF_MESSAGE,
        "message_id",
    )
});

/// The statement that stores emails.
pub(super) static EMAILS: LazyLock<String> = LazyLock::new(|| {
    statement(
        [("emails", EMAIL), ("email_bodies", EMAIL_BODY)],
        OF_EMAIL,
        "email_id",
    )
});

/// `stale` are the tenants whose catalog has changed since it was loaded, and all of them when the platform's has, whose
/// event types count for every tenant; nothing of theirs is stored. `refused` are the
/// contents whose key is not free. A key is free when its lock was taken and its row was written: the insert also sees a
/// row that another transaction has committed since the statement began.
fn statement([content, body]: [(&str, &[Column]); 2], more: &[Column], content_id: &str) -> String {
    let (first_of_deliveries, deliveries) = (11, DELIVERY.iter().chain(more));
    let (sent, next) = insert("deliveries", deliveries, first_of_deliveries, content_id);
    let (stored, next) = insert(content.0, content.1.iter(), next, "id");
    let (kept, _) = insert(body.0, body.1.iter(), next, content_id);
    let platform = TenantId::OWN.uuid();
    format!(
        "\
WITH changed AS ( \
  SELECT known.tenant FROM UNNEST($9::uuid[], $10::int8[]) AS known(tenant, edition) \
  LEFT JOIN tenants ON tenants.id = known.tenant WHERE tenants.catalog_edition IS DISTINCT FROM known.edition \
), stale AS ( \
  SELECT tenant FROM changed UNION \
  SELECT tenant FROM UNNEST($9::uuid[]) AS known(tenant) WHERE '{platform}' IN (SELECT tenant FROM changed) \
), keys AS MATERIALIZED ( \
  SELECT content, tenant, name, fingerprint, response, expiry, pg_try_advisory_xact_lock(lock) AS locked \
  FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::bytea[], $7::timestamptz[], $8::int8[]) \
    AS given(content, tenant, name, fingerprint, response, expiry, lock) \
), claimed AS ( \
  INSERT INTO idempotency_keys (tenant_id, key, fingerprint, sealed, response, created_at, expires_at) \
  SELECT tenant, name, fingerprint, false, response, $1, expiry FROM keys \
  WHERE locked AND tenant NOT IN (SELECT tenant FROM stale) {OVERWRITE} \
), refused AS ( \
  SELECT content FROM keys WHERE (tenant, name) NOT IN (SELECT tenant_id, key FROM claimed) \
), stored AS ({stored}), kept AS ({kept}), sent AS ({sent}) \
SELECT tenant, true FROM stale UNION ALL SELECT content, false FROM refused"
    )
}

/// An insert of given rows, whose arrays are the parameters from `first` on, and the number of the next parameter.
fn insert<'a>(
    table: &str,
    columns: impl Iterator<Item = &'a Column>,
    first: usize,
    content_id: &str,
) -> (String, usize) {
    let (mut names, mut values) = (Vec::new(), Vec::new());
    let (mut given, mut arrays, mut next) = (Vec::new(), Vec::new(), first);
    for Column { name, value } in columns {
        let (kind, expression) = match value {
            Value::Array(kind) => (Some(*kind), Some((*name).to_owned())),
            Value::Json => (Some("text"), Some(format!("{name}::jsonb"))),
            Value::Is(expression) => (None, Some((*expression).to_owned())),
            Value::Aside(kind) => (Some(*kind), None),
        };
        if let Some(expression) = expression {
            names.push(*name);
            values.push(expression);
        }
        if let Some(kind) = kind {
            given.push(*name);
            arrays.push(format!("${next}::{kind}[]"));
            next += 1;
        }
    }
    let (names, values) = (names.join(", "), values.join(", "));
    let (given, arrays) = (given.join(", "), arrays.join(", "));
    let sql = format!(
        "INSERT INTO {table} ({names}) SELECT {values} FROM UNNEST({arrays}) AS new({given}) \
         WHERE tenant_id NOT IN (SELECT tenant FROM stale) AND {content_id} NOT IN (SELECT content FROM refused)"
    );
    (sql, next)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sea_orm::{EntityTrait, IdenStatic as _, Iterable as _};

    use super::*;
    use crate::{
        entities::idempotency_key,
        store::schema::{delivery, email, email_body, message, payload},
    };

    /// Every column of the entity is either written or left null, and none is both.
    #[track_caller]
    fn covers<E: EntityTrait>(written: &[&str], left_null: &[&str]) {
        let columns = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let (written, left_null) = (columns(written), columns(left_null));
        assert_eq!(written.intersection(&left_null).count(), 0);
        let of_entity: BTreeSet<String> = E::Column::iter()
            .map(|column| column.as_str().to_owned())
            .collect();
        let named: BTreeSet<String> = written.union(&left_null).cloned().collect();
        assert_eq!(named, of_entity);
    }

    fn names(columns: &[&[Column]]) -> Vec<&'static str> {
        let columns = columns.iter().flat_map(|columns| columns.iter());
        let written = columns.filter(|column| !matches!(column.value, Value::Aside(_)));
        written.map(|column| column.name).collect()
    }

    #[test]
    fn every_column_of_the_entities_is_written_or_left_null_on_purpose() {
        let later = ["cancelled_at", "ordering_key", "traceparent"];
        covers::<message::Entity>(&names(&[MESSAGE]), &later);
        covers::<payload::Entity>(&names(&[PAYLOAD]), &[]);
        covers::<email::Entity>(&names(&[EMAIL]), &[]);
        covers::<email_body::Entity>(&names(&[EMAIL_BODY]), &[]);
        let ended = [
            "reason",
            "error_class",
            "finished_at",
            "dead_at",
            "replayed_at",
            "parked_for",
            "parked_reason",
            "parked_at",
            "replay_id",
        ];
        let of_email = [&["email_id", "recipient"][..], &ended].concat();
        covers::<delivery::Entity>(&names(&[DELIVERY, OF_MESSAGE]), &of_email);
        let of_message = [&["message_id", "endpoint_id"][..], &ended].concat();
        covers::<delivery::Entity>(&names(&[DELIVERY, OF_EMAIL]), &of_message);
    }

    #[test]
    fn every_column_of_a_key_is_written_and_overwritten_when_it_has_expired() {
        for column in idempotency_key::Column::iter() {
            let name = column.as_str();
            let inserted = MESSAGES
                .split_once("INSERT INTO idempotency_keys (")
                .unwrap()
                .1;
            let inserted = inserted.split_once(')').unwrap().0;
            assert!(inserted.split(", ").any(|one| one == name), "{name}");
            let is_overwritten = OVERWRITE.contains(&format!("{name} = excluded.{name}"));
            assert_eq!(
                is_overwritten,
                !["tenant_id", "key"].contains(&name),
                "{name}"
            );
        }
    }
}
