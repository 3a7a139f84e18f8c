//! What the event types of a batch of messages allow.

use std::collections::HashMap;

use relaypost_shared::{
    clock::Timestamp,
    entities::event_type::{Column, Entity},
    ids::{EventTypeId, TenantId},
};
use sea_orm::{
    ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, FromQueryResult,
    QueryFilter as _, QuerySelect as _,
};

use super::schemas::{Checked, Edition};
use crate::http::{ApiError, Code};

/// The registered event types among those that some messages name, without their schemas.
#[derive(Debug)]
pub(crate) struct Registered(HashMap<TenantId, HashMap<String, Row>>);

#[derive(Debug, FromQueryResult)]
struct Row {
    id: EventTypeId,
    tenant_id: TenantId,
    name: String,
    schema_version: i32,
    archived_at: Option<Timestamp>,
}

impl Registered {
    /// Looks up the event types of these tenants that have one of these names.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn load(
        tx: &DatabaseTransaction,
        tenants: &[TenantId],
        mut names: Vec<&str>,
    ) -> Result<Self, DbErr> {
        names.sort_unstable();
        names.dedup();
        let rows: Vec<Row> = Entity::find()
            .select_only()
            .columns([
                Column::Id,
                Column::TenantId,
                Column::Name,
                Column::SchemaVersion,
                Column::ArchivedAt,
            ])
            .filter(Column::TenantId.is_in(tenants.iter().copied()))
            .filter(Column::Name.is_in(names))
            .into_model()
            .all(tx)
            .await?;
        let mut registered: HashMap<TenantId, HashMap<String, Row>> = HashMap::new();
        for row in rows {
            let of_tenant = registered.entry(row.tenant_id).or_default();
            of_tenant.insert(row.name.clone(), row);
        }
        Ok(Self(registered))
    }

    /// Whether a message of this type, whose payload was checked so, can be published. One that is not registered can.
    ///
    /// # Errors
    /// 422 when the type is archived or the payload does not fit its schema; [`super::is_stale`] when the payload has to
    /// be checked again.
    pub(crate) fn admit(
        &self,
        tenant: TenantId,
        event_type: &str,
        checked: Option<&Checked>,
    ) -> Result<(), ApiError> {
        let row = self.0.get(&tenant).and_then(|of| of.get(event_type));
        let Some(row) = row else { return Ok(()) };
        if row.archived_at.is_some() {
            let detail = format!("the event type {event_type} is archived");
            return Err(ApiError::new(Code::EventTypeArchived, detail));
        }
        let current = Edition {
            id: row.id,
            version: row.schema_version,
        };
        Checked::verdict(checked, current)
    }
}
