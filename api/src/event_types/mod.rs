//! Event types: what a tenant publishes, and what the payloads have to look like. Registering one is never needed.

mod body;
mod costly;
mod counted;
mod patterns;
mod registered;
mod schema;
mod schemas;
mod threads;
mod unfold;
mod work;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
    types::MaybeUndefined,
};
use relaypost_shared::{db::begin_write, entities::event_type, ids::TenantId};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _, Set, sea_query::OnConflict,
};
use serde_json::Value;

use self::body::{EventType, EventTypeChanges, NewEventType};
pub(crate) use self::{
    body::RESERVED,
    registered::Registered,
    schemas::{Allowance, Checked, Schemas, is_stale},
};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may},
    http::{
        ApiError, Checks, Code, Cursor, EventTypeName, Limit, NoContent, Page, Paging, Recorded,
        Reply, StrictJson, Text, document::Tag, to_bytes,
    },
    idempotency::{Begun, IdempotencyKey, Once},
};

/// The operations on event types.
#[derive(Debug)]
pub(crate) struct EventTypesApi;

#[OpenApi(prefix_path = "/v1/event-types", tag = "Tag::EventTypes")]
impl EventTypesApi {
    /// Register an event type
    ///
    /// From now on a message of this type is refused (422, with the place in the payload) unless it fits the `schema`. A
    /// type that is not registered can be published with any payload. A name that exists is 409 `event_type_exists`. A
    /// schema that costs too much to check, whatever the payload, is 422 `schema_too_expensive`.
    #[oai(path = "/", method = "post", operation_id = "event_types_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<NewEventType>,
    ) -> Result<Recorded<EventType>, ApiError> {
        let mut checks = Checks::default();
        body.value.check(&mut checks);
        checks.finish()?;
        check_schema(services, caller.tenant, body.value.schema()).await?;
        let keyed = key.of("POST /v1/event-types", &body.bytes);
        let once = match Once::begin(services, caller.tenant, keyed).await? {
            Begun::Done(accepted) => return Ok(accepted.into()),
            Begun::Work(once) => once,
        };
        let row = body.value.into_row(caller.tenant, once.now());
        let same_name = [event_type::Column::TenantId, event_type::Column::Name];
        let created = event_type::Entity::insert(row.clone().into_active_model())
            .on_conflict(OnConflict::columns(same_name).do_nothing().to_owned())
            .exec_without_returning(once.tx())
            .await?;
        if created == 0 {
            let exists = ApiError::new(
                Code::EventTypeExists,
                "there is an event type with this name; change it with PATCH",
            );
            return Err(once.refuse(exists).await);
        }
        let (action, now) = (Action::EventTypeCreated, once.now());
        audit::record(once.tx(), &caller, action, row.id, now).await?;
        let created = EventType::from(row);
        Ok(once.finish(to_bytes(&created)?).await?.into())
    }

    /// List event types
    ///
    /// Archived ones included.
    #[oai(path = "/", method = "get", operation_id = "event_types_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<EventType>>, ApiError> {
        let types = event_type::Entity::of_tenant(caller.tenant);
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, types, event_type::Column::Id, |row| row.id)
            .await?;
        Reply::of(&page.map(EventType::from))
    }

    /// Get an event type
    ///
    /// An archived one too.
    #[oai(path = "/:name", method = "get", operation_id = "event_types_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Read>,
        /// Its name; a `/` in it is written `%2F`.
        name: Path<Text<EventTypeName>>,
    ) -> Result<Reply<EventType>, ApiError> {
        let row = find(&services.db, caller.tenant, &name.0.0.0, false).await?;
        Reply::of(&row.into())
    }

    /// Change an event type
    ///
    /// A field that is left out stays as it is; `null` clears one that can be without a value. A new schema holds for what
    /// is published from now on. One that costs too much to check, whatever the payload, is 422 `schema_too_expensive`.
    #[oai(path = "/:name", method = "patch", operation_id = "event_types_update")]
    async fn update(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// Its name; a `/` in it is written `%2F`.
        name: Path<Text<EventTypeName>>,
        body: StrictJson<EventTypeChanges>,
    ) -> Result<Reply<EventType>, ApiError> {
        let mut checks = Checks::default();
        body.value.check(&mut checks);
        checks.finish()?;
        check_schema(services, caller.tenant, body.value.schema()).await?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = find(&tx, caller.tenant, &name.0.0.0, true).await?;
        let changes = body.value;
        let mut row = row.into_active_model();
        match changes.description {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => row.description = Set(None),
            MaybeUndefined::Value(text) => row.description = Set(Some(text)),
        }
        let schema = match changes.schema {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(schema) => Some(Some(schema.0)),
        };
        if let Some(schema) = schema {
            row.schema_version = Set(row.schema_version.take().unwrap_or(0) + 1);
            row.schema = Set(schema);
        }
        let archived_at = row.archived_at.as_ref().as_ref().copied();
        match changes.archived {
            MaybeUndefined::Undefined | MaybeUndefined::Null => {}
            MaybeUndefined::Value(false) => row.archived_at = Set(None),
            MaybeUndefined::Value(true) => row.archived_at = Set(archived_at.or(Some(now))),
        }
        let row = sea_orm::ActiveModelTrait::update(row, &tx).await?;
        audit::record(&tx, &caller, Action::EventTypeChanged, row.id, now).await?;
        tx.commit().await?;
        Reply::of(&row.into())
    }

    /// Archive an event type
    ///
    /// Nothing of this type can be published any more: 422 `event_type_archived`. What was published stays, and so does the
    /// type: PATCH it with `archived: false` to take it up again.
    #[oai(
        path = "/:name",
        method = "delete",
        operation_id = "event_types_archive"
    )]
    async fn archive(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::Manage>,
        /// Its name; a `/` in it is written `%2F`.
        name: Path<Text<EventTypeName>>,
    ) -> Result<NoContent, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = find(&tx, caller.tenant, &name.0.0.0, true).await?;
        // Archived again it keeps the time of the first.
        if row.archived_at.is_some() {
            return Ok(NoContent);
        }
        let id = row.id;
        let mut row = row.into_active_model();
        row.archived_at = Set(Some(now));
        sea_orm::ActiveModelTrait::update(row, &tx).await?;
        audit::record(&tx, &caller, Action::EventTypeArchived, id, now).await?;
        tx.commit().await?;
        Ok(NoContent)
    }
}

async fn check_schema(
    services: &Services,
    tenant: TenantId,
    schema: Option<&Value>,
) -> Result<(), ApiError> {
    if let Some(schema) = schema {
        services.schemas.compile(tenant, schema.clone()).await??;
    }
    Ok(())
}

/// A tenant's event type; `held`: nobody else changes it before this transaction ends.
async fn find(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    name: &str,
    held: bool,
) -> Result<event_type::Model, ApiError> {
    let named = event_type::Entity::of_tenant(tenant).filter(event_type::Column::Name.eq(name));
    let named = if held { named.lock_exclusive() } else { named };
    let row = named.one(db).await?;
    row.ok_or_else(|| ApiError::not_found("event type"))
}
