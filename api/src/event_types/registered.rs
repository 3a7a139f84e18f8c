//! What the event types of a tenant allow.

use std::collections::HashMap;

use relaypost_shared::{
    clock::Timestamp,
    entities::event_type::{Column, Entity},
    ids::{EventTypeId, TenantId},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, FromQueryResult, QueryFilter as _,
    QuerySelect as _, QueryTrait as _,
};

use super::schemas::{Checked, Edition};
use crate::http::{ApiError, Code};

/// Registered event types of one tenant, or of the platform ([`TenantId::OWN`]), without their schemas.
#[derive(Debug, Default)]
pub(crate) struct Registered(HashMap<String, Row>);

#[derive(Debug, FromQueryResult)]
struct Row {
    id: EventTypeId,
    tenant_id: TenantId,
    name: String,
    schema_version: i32,
    archived_at: Option<Timestamp>,
}

impl Registered {
    /// Looks up the event types of these tenants: those that have one of these names, or all.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn load(
        db: &impl ConnectionTrait,
        tenants: &[TenantId],
        names: Option<Vec<&str>>,
    ) -> Result<HashMap<TenantId, Self>, DbErr> {
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
            .apply_if(names, |query, mut names| {
                names.sort_unstable();
                names.dedup();
                query.filter(Column::Name.is_in(names))
            })
            .into_model()
            .all(db)
            .await?;
        let mut registered: HashMap<TenantId, Self> = HashMap::new();
        for row in rows {
            let of_tenant = registered.entry(row.tenant_id).or_default();
            of_tenant.0.insert(row.name.clone(), row);
        }
        Ok(registered)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether a message of this type, whose payload was checked so, can be published. One that is not registered can. The
    /// tenant's own type of this name counts before the platform's.
    ///
    /// # Errors
    /// 422 when the type is archived or the payload does not fit its schema; [`super::is_stale`] when the payload has to
    /// be checked again.
    pub(crate) fn admit(
        own: Option<&Self>,
        platforms: Option<&Self>,
        event_type: &str,
        checked: Option<&Checked>,
    ) -> Result<(), ApiError> {
        let mut both = [own, platforms].into_iter().flatten();
        let Some(row) = both.find_map(|types| types.0.get(event_type)) else {
            return Ok(());
        };
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
