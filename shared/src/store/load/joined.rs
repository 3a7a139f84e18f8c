//! Webhooks with their messages in one statement of PostgreSQL.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use sea_orm::{
    DbErr, EnumIter, Iterable as _,
    sqlx::{self, Decode, Postgres as Driver, Row as _, Type, postgres::PgRow},
};
use uuid::Uuid;

use super::{Content, Draft, Loaded, Outgoing, Version};
use crate::{
    circuit::RESTLESS,
    db::{Postgres, driver_error},
    delivery::DeliveryKind,
    ids::{DeliveryId, EndpointId, MessageId, ReplayId, TenantId},
    store::Delivery,
};

/// The columns that are read. A variant's place in the list is the column's place in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter)]
enum Read {
    Id,
    Tenant,
    Message,
    Endpoint,
    AttemptCount,
    NextAttemptAt,
    DispatchAt,
    ErrorClass,
    CreatedAt,
    ReplayedAt,
    ScheduleStart,
    ParkedFor,
    ExpiresAt,
    Replay,
    EventType,
    Payload,
    RequestId,
    Version,
    Restless,
}

impl Read {
    const fn sql(self) -> &'static str {
        match self {
            Self::Id => "d.id",
            Self::Tenant => "d.tenant_id",
            Self::Message => "d.message_id",
            Self::Endpoint => "d.endpoint_id",
            Self::AttemptCount => "d.attempt_count",
            Self::NextAttemptAt => "d.next_attempt_at",
            Self::DispatchAt => "d.dispatch_at",
            Self::ErrorClass => "d.error_class",
            Self::CreatedAt => "d.created_at",
            Self::ReplayedAt => "d.replayed_at",
            Self::ScheduleStart => "d.schedule_start",
            Self::ParkedFor => "d.parked_for",
            Self::ExpiresAt => "d.expires_at",
            Self::Replay => "d.replay_id",
            Self::EventType => "m.event_type",
            // Once, however many deliveries of the message there are.
            Self::Payload => {
                "CASE row_number() OVER (PARTITION BY d.message_id) WHEN 1 THEN p.payload END"
            }
            Self::RequestId => "m.request_id",
            Self::Version => "e.xmin::text::int8",
            Self::Restless => "c.id IS NOT NULL",
        }
    }

    fn of<'r, T>(self, row: &'r PgRow) -> Result<T, sqlx::Error>
    where
        T: Decode<'r, Driver> + Type<Driver>,
    {
        row.try_get(self as usize)
    }
}

/// A circuit that is at rest is the same as none. `$2` and `$3` are the first and the last of the ids: they leave the partitions
/// of the weeks in between, and PostgreSQL opens no other. The ids are a condition and no table to join with: for a join it has
/// been seen to read every delivery between the first and the last.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<&str> = Read::iter().map(Read::sql).collect();
    format!(
        "\
SELECT {} FROM deliveries d \
LEFT JOIN messages m ON m.id = d.message_id \
LEFT JOIN message_payloads p ON p.message_id = m.id \
LEFT JOIN endpoints e ON e.id = d.endpoint_id \
LEFT JOIN (SELECT id FROM circuits WHERE {RESTLESS}) c ON c.id = d.endpoint_id \
WHERE d.id = ANY($1) AND d.id BETWEEN $2 AND $3 AND d.status = 'pending'",
        columns.join(", ")
    )
});

/// Loads the webhooks among `ids` that are still pending into `slice`. Returns the pending deliveries that are no webhooks, or
/// lack a row.
pub(super) async fn load(
    postgres: &Postgres,
    ids: &[DeliveryId],
    slice: &mut Draft,
) -> Result<Vec<DeliveryId>, DbErr> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let (first, last) = (ids.iter().min().copied(), ids.iter().max().copied());
    let select = sqlx::query(SELECT.as_str()).bind(ids);
    let select = select.bind(first).bind(last);
    let rows = postgres
        .run(async |pool| select.fetch_all(pool).await)
        .await?;
    read(&rows, slice).map_err(driver_error)
}

fn read(rows: &[PgRow], slice: &mut Draft) -> Result<Vec<DeliveryId>, sqlx::Error> {
    let mut messages = HashMap::new();
    for row in rows {
        if let Some(message) = message(row)? {
            messages.insert(message.id, Arc::new(message));
        }
    }
    let mut others = Vec::new();
    slice.deliveries.reserve(rows.len());
    for row in rows {
        let id = DeliveryId::from_uuid(Read::Id.of(row)?);
        let message: Option<Uuid> = Read::Message.of(row)?;
        let message = message.and_then(|id| messages.get(&MessageId::from_uuid(id)));
        let endpoint: Option<Uuid> = Read::Endpoint.of(row)?;
        let version: Option<Version> = Read::Version.of(row)?;
        let (Some(message), Some(endpoint), Some(version)) = (message, endpoint, version) else {
            others.push(id);
            continue;
        };
        let endpoint = EndpointId::from_uuid(endpoint);
        if let Entry::Vacant(new) = slice.endpoints.entry(endpoint) {
            new.insert(Some(version));
            if Read::Restless.of(row)? {
                slice.circuits.push(endpoint.uuid());
            }
        }
        slice.deliveries.push(Loaded {
            delivery: delivery(row, id, message.id, endpoint)?,
            content: Content::Webhook {
                message: message.clone(),
                endpoint,
            },
        });
    }
    Ok(others)
}

/// The message of a row that has its payload.
fn message(row: &PgRow) -> Result<Option<Outgoing>, sqlx::Error> {
    let payload: Option<&[u8]> = Read::Payload.of(row)?;
    let Some(payload) = payload else {
        return Ok(None);
    };
    Ok(Some(Outgoing {
        id: MessageId::from_uuid(Read::Message.of(row)?),
        event_type: Read::EventType.of(row)?,
        payload: Bytes::copy_from_slice(payload),
        request_id: Read::RequestId.of(row)?,
    }))
}

fn delivery(
    row: &PgRow,
    id: DeliveryId,
    message: MessageId,
    endpoint: EndpointId,
) -> Result<Delivery, sqlx::Error> {
    let tenant = TenantId::from_uuid(Read::Tenant.of(row)?);
    let pending = Delivery::pending(id, DeliveryKind::Webhook, tenant, Read::CreatedAt.of(row)?);
    let error_class: Option<&str> = Read::ErrorClass.of(row)?;
    let replay: Option<Uuid> = Read::Replay.of(row)?;
    Ok(Delivery {
        message_id: Some(message),
        endpoint_id: Some(endpoint),
        attempt_count: Read::AttemptCount.of(row)?,
        next_attempt_at: Read::NextAttemptAt.of(row)?,
        dispatch_at: Read::DispatchAt.of(row)?,
        error_class: error_class.and_then(|word| word.parse().ok()),
        replayed_at: Read::ReplayedAt.of(row)?,
        schedule_start: Read::ScheduleStart.of(row)?,
        parked_for: Read::ParkedFor.of(row)?,
        expires_at: Read::ExpiresAt.of(row)?,
        replay_id: replay.map(ReplayId::from_uuid),
        ..pending
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sea_orm::IdenStatic as _;

    use super::*;
    use crate::store::schema::delivery::Column;

    /// The columns that a pending webhook has no use for: those of mails, those that say how a delivery has ended, and those
    /// that are the same for all that are loaded.
    const LEFT_OUT: [Column; 9] = [
        Column::Kind,
        Column::EmailId,
        Column::Recipient,
        Column::Status,
        Column::Reason,
        Column::FinishedAt,
        Column::ParkedReason,
        Column::ParkedAt,
        Column::DeadAt,
    ];

    #[test]
    fn every_column_of_a_delivery_is_loaded_or_left_out_on_purpose() {
        let read: BTreeSet<&str> = Read::iter()
            .filter_map(|column| column.sql().strip_prefix("d."))
            .collect();
        let left_out = BTreeSet::from(LEFT_OUT.map(|column| column.as_str()));
        let all: BTreeSet<&str> = Column::iter().map(|column| column.as_str()).collect();
        assert_eq!(read, &all - &left_out);
    }

    #[test]
    fn a_column_is_read_at_its_place_in_the_list() {
        for (place, column) in Read::iter().enumerate() {
            assert_eq!(place, column as usize);
        }
    }
}
