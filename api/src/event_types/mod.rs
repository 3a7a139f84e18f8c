//! Event types: what a tenant publishes, and what the payloads have to look like. Registering one is never needed.
//!
//! Those that the platform registers are rows of its own tenant, [`TenantId::OWN`]. They count for every tenant that has no
//! type of the same name, and their changes are noticed by the edition of that one tenant (`messages/catalog.rs`).

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
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    entities::event_type::{self, Column},
    ids::{EventTypeId, TenantId},
};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, ExprTrait as _,
    IntoActiveModel as _, QueryFilter as _, QuerySelect as _, Set,
    sea_query::{OnConflict, Query as Select},
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
    audit::{self, Action, By},
    auth::{Authorized, may},
    http::{
        ApiError, Checks, Code, Cursor, EventTypeName, FailsWith, Limit, NoContent, Page, Paging,
        Recorded, Reply, StrictJson, Text, document::Tag, failures, to_bytes,
    },
    idempotency::{Begun, IdempotencyKey, Once},
};

failures! {
    /// There is an event type with this name; change it with PATCH.
    EventTypeExists = EventTypeExists;
    /// The event type is archived.
    EventTypeArchived = EventTypeArchived;
    /// The schema, or a payload with it, costs too much to check.
    SchemaTooExpensive = SchemaTooExpensive;
}

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
    ///
    /// A platform key that names no tenant registers it for all tenants. A tenant's own type of the same name counts before it.
    #[oai(path = "/", method = "post", operation_id = "event_types_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::ManageShared>,
        key: IdempotencyKey,
        body: StrictJson<NewEventType>,
    ) -> Result<Recorded<EventType>, FailsWith<(EventTypeExists, SchemaTooExpensive)>> {
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
        let same_name = [Column::TenantId, Column::Name];
        let created = event_type::Entity::insert(row.clone().into_active_model())
            .on_conflict(OnConflict::columns(same_name).do_nothing().to_owned())
            .exec_without_returning(once.tx())
            .await?;
        if created == 0 {
            let exists = ApiError::new(
                Code::EventTypeExists,
                "there is an event type with this name; change it with PATCH",
            );
            return Err(once.refuse(exists).await.into());
        }
        let (action, now) = (Action::EventTypeCreated, once.now());
        record(once.tx(), &caller, action, row.id, now).await?;
        let created = EventType::from(row);
        Ok(once.finish(to_bytes(&created)?).await?.into())
    }

    /// List event types
    ///
    /// The tenant's own and those of the platform, archived ones included. A type of the platform is left out when the tenant
    /// has one of the same name, which counts. A platform key that names no tenant sees those of the platform.
    #[oai(path = "/", method = "get", operation_id = "event_types_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::ReadShared>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<EventType>>, ApiError> {
        let types = event_type::Entity::find().filter(visible(caller.tenant));
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, types, Column::Id, |row| row.id)
            .await?;
        Reply::of(&page.map(EventType::from))
    }

    /// Get an event type
    ///
    /// An archived one too. The tenant's own comes before the platform's.
    #[oai(path = "/:name", method = "get", operation_id = "event_types_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::ReadShared>,
        /// Its name; a `/` in it is written `%2F`.
        name: Path<Text<EventTypeName>>,
    ) -> Result<Reply<EventType>, ApiError> {
        let named = event_type::Entity::find()
            .filter(visible(caller.tenant))
            .filter(Column::Name.eq(name.0.0.0));
        let row = named.one(&services.db).await?;
        let row = row.ok_or_else(|| ApiError::not_found("event type"))?;
        Reply::of(&row.into())
    }

    /// Change an event type
    ///
    /// A field that is left out stays as it is; `null` clears one that can be without a value. A new schema holds for what
    /// is published from now on. One that costs too much to check, whatever the payload, is 422 `schema_too_expensive`. A
    /// type of the platform is changed with a platform key that names no tenant; for a tenant it is 403.
    #[oai(path = "/:name", method = "patch", operation_id = "event_types_update")]
    async fn update(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::ManageShared>,
        /// Its name; a `/` in it is written `%2F`.
        name: Path<Text<EventTypeName>>,
        body: StrictJson<EventTypeChanges>,
    ) -> Result<Reply<EventType>, FailsWith<SchemaTooExpensive>> {
        let mut checks = Checks::default();
        body.value.check(&mut checks);
        checks.finish()?;
        check_schema(services, caller.tenant, body.value.schema()).await?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = held(&tx, caller.tenant, &name.0.0.0).await?;
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
        record(&tx, &caller, Action::EventTypeChanged, row.id, now).await?;
        tx.commit().await?;
        Ok(Reply::of(&row.into())?)
    }

    /// Archive an event type
    ///
    /// Nothing of this type can be published any more: 422 `event_type_archived`. What was published stays, and so does the
    /// type: PATCH it with `archived: false` to take it up again. A type of the platform is archived with a platform key that
    /// names no tenant; for a tenant it is 403.
    #[oai(
        path = "/:name",
        method = "delete",
        operation_id = "event_types_archive"
    )]
    async fn archive(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::ManageShared>,
        /// Its name; a `/` in it is written `%2F`.
        name: Path<Text<EventTypeName>>,
    ) -> Result<NoContent, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = held(&tx, caller.tenant, &name.0.0.0).await?;
        // Archived again it keeps the time of the first.
        if row.archived_at.is_some() {
            return Ok(NoContent);
        }
        let id = row.id;
        let mut row = row.into_active_model();
        row.archived_at = Set(Some(now));
        sea_orm::ActiveModelTrait::update(row, &tx).await?;
        record(&tx, &caller, Action::EventTypeArchived, id, now).await?;
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

/// The event types that count for a tenant: its own, and those of the platform unless it has one of the same name.
fn visible(tenant: TenantId) -> Condition {
    let own_names = Select::select()
        .column(Column::Name)
        .from(event_type::Entity)
        .and_where(Column::TenantId.eq(tenant))
        .to_owned();
    let of_platform = Column::TenantId.eq(TenantId::OWN);
    Condition::any()
        .add(Column::TenantId.eq(tenant))
        .add(of_platform.and(Column::Name.not_in_subquery(own_names)))
}

/// A tenant's own event type, which nobody else changes before this transaction ends.
///
/// # Errors
/// 403 when it is the platform's, 404 when there is none.
async fn held(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    name: &str,
) -> Result<event_type::Model, ApiError> {
    let of = |owner| event_type::Entity::of_tenant(owner).filter(Column::Name.eq(name));
    if let Some(row) = of(tenant).lock_exclusive().one(tx).await? {
        return Ok(row);
    }
    match of(TenantId::OWN).one(tx).await? {
        None => Err(ApiError::not_found("event type")),
        Some(_) => Err(ApiError::new(
            Code::Forbidden,
            "this event type is the platform's; register one with the same name to have your own",
        )),
    }
}

/// Notes what was done in the audit log. What is done to types of the platform is no tenant's.
async fn record(
    tx: &impl ConnectionTrait,
    caller: &may::ForTenant,
    action: Action,
    id: EventTypeId,
    now: Timestamp,
) -> Result<(), DbErr> {
    let by = By::new(caller.actor, &caller.request_id);
    let tenant = Some(caller.tenant).filter(|tenant| *tenant != TenantId::OWN);
    audit::record_by(tx, &by, tenant, action, id, now).await
}
