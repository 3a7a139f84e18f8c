//! Messages and their deliveries in one statement of PostgreSQL, which is one round trip and one commit.
//!
//! Only what can differ between new rows is sent, as one array for each column and in the driver's binary form.

use relaypost_shared::{
    clock::Timestamp,
    db::Postgres,
    entities::{delivery, message},
    ids::TenantId,
};
use sea_orm::{DbErr, sqlx};
use uuid::Uuid;

use super::catalog::Lookup;

/// `stale` are the tenants whose catalog has changed since it was loaded; while there are any, nothing is stored.
const INSERT: &str = "\
WITH stale AS ( \
  SELECT known.tenant FROM UNNEST($1::uuid[], $2::int8[]) AS known(tenant, edition) \
  LEFT JOIN tenants ON tenants.id = known.tenant WHERE tenants.catalog_edition IS DISTINCT FROM known.edition \
), stored AS ( \
  INSERT INTO messages (id, tenant_id, event_type, channels, payload, metadata, request_id, created_at, deliver_at, expires_at) \
  SELECT id, tenant, event_type, channels::jsonb, payload, metadata::jsonb, request, $3, due, expiry \
  FROM UNNEST($4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::bytea[], $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[]) \
    AS new(id, tenant, event_type, channels, payload, metadata, request, due, expiry) \
  WHERE NOT EXISTS (SELECT FROM stale) \
), sent AS ( \
  INSERT INTO deliveries (id, tenant_id, kind, message_id, endpoint_id, status, attempt_count, next_attempt_at, dispatch_at, \
    created_at, schedule_start, expires_at) \
  SELECT id, tenant, 'webhook', message, endpoint, 'pending', 0, due, due, $3, 0, expiry \
  FROM UNNEST($13::uuid[], $14::uuid[], $15::uuid[], $16::uuid[], $17::timestamptz[], $18::timestamptz[]) \
    AS new(id, tenant, message, endpoint, due, expiry) \
  WHERE NOT EXISTS (SELECT FROM stale) \
) \
SELECT tenant FROM stale";

/// Stores new messages with new deliveries, or nothing: when the answer is not empty, it names the tenants whose catalog has
/// changed since.
///
/// # Errors
/// When the database fails; then nothing is stored, unless the connection was lost after it was.
pub(super) async fn insert(
    postgres: &Postgres,
    lookup: &Lookup,
    messages: &[message::Model],
    deliveries: &[delivery::Model],
    now: Timestamp,
) -> Result<Vec<TenantId>, DbErr> {
    let of_messages = Messages::of(messages)?;
    let tenants: Vec<Uuid> = lookup.keys().map(|tenant| tenant.uuid()).collect();
    let editions: Vec<Option<i64>> = lookup.values().map(|catalog| catalog.edition).collect();
    let each = |id: fn(&delivery::Model) -> Option<Uuid>| -> Vec<Option<Uuid>> {
        deliveries.iter().map(id).collect()
    };
    let insert = sqlx::query_scalar(INSERT)
        .bind(tenants)
        .bind(editions)
        .bind(now)
        .bind(of_messages.ids)
        .bind(of_messages.tenants)
        .bind(of_messages.event_types)
        .bind(of_messages.channels)
        .bind(of_messages.payloads)
        .bind(of_messages.metadata)
        .bind(of_messages.requests)
        .bind(of_messages.due)
        .bind(of_messages.expiry)
        .bind(each(|one| Some(one.id.uuid())))
        .bind(each(|one| Some(one.tenant_id.uuid())))
        .bind(each(|one| one.message_id.map(|id| id.uuid())))
        .bind(each(|one| one.endpoint_id.map(|id| id.uuid())))
        .bind(
            deliveries
                .iter()
                .map(|one| one.next_attempt_at)
                .collect::<Vec<_>>(),
        )
        .bind(
            deliveries
                .iter()
                .map(|one| one.expires_at)
                .collect::<Vec<_>>(),
        );
    let stale: Vec<Uuid> = postgres
        .run(async |pool| insert.fetch_all(pool).await)
        .await?;
    Ok(stale.into_iter().map(TenantId::from_uuid).collect())
}

/// The columns of messages.
#[derive(Default)]
struct Messages<'a> {
    ids: Vec<Uuid>,
    tenants: Vec<Uuid>,
    event_types: Vec<&'a str>,
    channels: Vec<String>,
    payloads: Vec<&'a [u8]>,
    metadata: Vec<Option<String>>,
    requests: Vec<&'a str>,
    due: Vec<Option<Timestamp>>,
    expiry: Vec<Option<Timestamp>>,
}

impl<'a> Messages<'a> {
    fn of(rows: &'a [message::Model]) -> Result<Self, DbErr> {
        let mut columns = Self::default();
        for row in rows {
            let channels = serde_json::to_string(&row.channels);
            columns.ids.push(row.id.uuid());
            columns.tenants.push(row.tenant_id.uuid());
            columns.event_types.push(&row.event_type);
            columns
                .channels
                .push(channels.map_err(|error| DbErr::Json(error.to_string()))?);
            columns.payloads.push(&row.payload);
            columns
                .metadata
                .push(row.metadata.as_ref().map(ToString::to_string));
            columns.requests.push(&row.request_id);
            columns.due.push(row.deliver_at);
            columns.expiry.push(row.expires_at);
        }
        Ok(columns)
    }
}
