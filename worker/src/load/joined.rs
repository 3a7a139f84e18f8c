//! Webhooks with their messages in one statement of PostgreSQL.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use relaypost_shared::{
    circuit::RESTLESS,
    clock::Timestamp,
    db::{Database, Postgres, driver_error},
    delivery::DeliveryKind,
    entities::delivery,
    ids::{DeliveryId, EndpointId, MessageId, ReplayId, TenantId},
};
use sea_orm::{
    DbErr,
    sqlx::{self, Row as _, postgres::PgRow},
};
use uuid::Uuid;

use super::{
    Loaded, Outgoing, Target,
    endpoints::{Endpoints, Version},
    rows,
};

/// A circuit that is at rest is the same as none. The payload comes once, however many deliveries of the message there are.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "\
SELECT d.id, d.tenant_id, d.message_id, d.endpoint_id, d.attempt_count, d.next_attempt_at, d.dispatch_at, d.error_class, \
  d.created_at, d.replayed_at, d.schedule_start, d.parked_for, d.expires_at, d.replay_id, \
  m.event_type, CASE row_number() OVER (PARTITION BY d.message_id) WHEN 1 THEN m.payload END, m.request_id, e.xmin::text::int8, \
  c.id IS NOT NULL \
FROM deliveries d \
LEFT JOIN messages m ON m.id = d.message_id \
LEFT JOIN endpoints e ON e.id = d.endpoint_id \
LEFT JOIN (SELECT id FROM circuits WHERE {RESTLESS}) c ON c.id = d.endpoint_id \
WHERE d.id = ANY($1) AND d.status = 'pending'"
    )
});

/// What was loaded.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) webhooks: Vec<Loaded>,
    /// Pending deliveries that are no webhooks, or lack a row.
    pub(super) others: Vec<DeliveryId>,
}

/// A row with everything that it names.
struct Found {
    delivery: delivery::Model,
    message: Arc<Outgoing>,
    endpoint: EndpointId,
}

/// Loads the deliveries among `ids` that are still pending.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn load(
    db: &Database,
    postgres: &Postgres,
    endpoints: &Endpoints,
    ids: &[DeliveryId],
    now: Timestamp,
) -> Result<Joined, DbErr> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let found = postgres
        .run(async |pool| sqlx::query(SELECT.as_str()).bind(ids).fetch_all(pool).await)
        .await?;
    let mut slice = Slice::default();
    for row in &found {
        slice.add_message(row).map_err(driver_error)?;
    }
    for row in &found {
        slice.add(row).map_err(driver_error)?;
    }
    drop(found);
    let known = endpoints.of(db, &slice.versions, now).await?;
    let circuits = rows::circuits(db, slice.troubled).await?;
    let mut joined = Joined {
        webhooks: Vec::with_capacity(slice.found.len()),
        others: slice.others,
    };
    for Found {
        delivery,
        message,
        endpoint,
    } in slice.found
    {
        let known = known.get(&endpoint);
        let Some((known, credentials)) =
            known.and_then(|known| Some((known, known.credentials.clone()?)))
        else {
            joined.others.push(delivery.id);
            continue;
        };
        let target = Target::Webhook {
            message,
            endpoint: known.endpoint.clone(),
            credentials,
            circuit: circuits.get(&endpoint.uuid()).cloned(),
        };
        joined.webhooks.push(Loaded { delivery, target });
    }
    Ok(joined)
}

/// What the rows of a slice name.
#[derive(Default)]
struct Slice {
    found: Vec<Found>,
    others: Vec<DeliveryId>,
    messages: HashMap<MessageId, Arc<Outgoing>>,
    versions: HashMap<EndpointId, Version>,
    troubled: Vec<Uuid>,
}

impl Slice {
    /// Takes the message from the row that has its payload.
    fn add_message(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let payload: Option<&[u8]> = row.try_get(15)?;
        let Some(payload) = payload else {
            return Ok(());
        };
        let id = MessageId::from_uuid(row.try_get(2)?);
        let outgoing = Outgoing {
            id,
            event_type: row.try_get(14)?,
            payload: Bytes::copy_from_slice(payload),
            request_id: row.try_get(16)?,
        };
        self.messages.insert(id, Arc::new(outgoing));
        Ok(())
    }

    fn add(&mut self, row: &PgRow) -> Result<(), sqlx::Error> {
        let id = DeliveryId::from_uuid(row.try_get(0)?);
        let message: Option<Uuid> = row.try_get(2)?;
        let message = message.and_then(|id| self.messages.get(&MessageId::from_uuid(id)));
        let endpoint: Option<Uuid> = row.try_get(3)?;
        let version: Option<Version> = row.try_get(17)?;
        let (Some(message), Some(endpoint), Some(version)) = (message, endpoint, version) else {
            self.others.push(id);
            return Ok(());
        };
        let endpoint = EndpointId::from_uuid(endpoint);
        if row.try_get::<bool, _>(18)? && !self.troubled.contains(&endpoint.uuid()) {
            self.troubled.push(endpoint.uuid());
        }
        self.versions.insert(endpoint, version);
        let pending = delivery::Model::pending(
            id,
            DeliveryKind::Webhook,
            TenantId::from_uuid(row.try_get(1)?),
            row.try_get(8)?,
        );
        let error_class: Option<&str> = row.try_get(7)?;
        self.found.push(Found {
            delivery: delivery::Model {
                message_id: Some(message.id),
                endpoint_id: Some(endpoint),
                attempt_count: row.try_get(4)?,
                next_attempt_at: row.try_get(5)?,
                dispatch_at: row.try_get(6)?,
                error_class: error_class.and_then(|word| word.parse().ok()),
                replayed_at: row.try_get(9)?,
                schedule_start: row.try_get(10)?,
                parked_for: row.try_get(11)?,
                expires_at: row.try_get(12)?,
                replay_id: row.try_get::<Option<Uuid>, _>(13)?.map(ReplayId::from_uuid),
                ..pending
            },
            message: message.clone(),
            endpoint,
        });
        Ok(())
    }
}
