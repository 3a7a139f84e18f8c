//! Tenants.

mod body;
mod put;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    db::begin_write,
    entities::tenant,
    ids::{self, TenantId},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, sea_query::OnConflict,
};

use self::body::{NewTenant, Tenant, TenantChanges};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may},
    http::{
        ApiError, Cursor, ExternalId, ExternalIdTaken, FailsWith, Limit, NamedInPath, Page, Paging,
        Recorded, Ref, Reply, StrictJson, Text, Upserted, document::Tag, external_id, to_bytes,
    },
    idempotency::{Begun, IdempotencyKey, Once},
};

/// The operations on tenants.
#[derive(Debug)]
pub(crate) struct TenantsApi;

#[OpenApi(prefix_path = "/v1/tenants", tag = "Tag::Tenants")]
impl TenantsApi {
    /// Create a tenant
    ///
    /// It begins with no keys: create its first one with `api_keys_create`. An `external_id` that another tenant has is 409
    /// `external_id_taken`.
    #[oai(path = "/", method = "post", operation_id = "tenants_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        key: IdempotencyKey,
        body: StrictJson<NewTenant>,
    ) -> Result<Recorded<Tenant>, FailsWith<ExternalIdTaken>> {
        body.value.check()?;
        // Here is no tenant yet, and so the platform's own remembers the answer.
        let keyed = key.of("POST /v1/tenants", &body.bytes);
        let once = match Once::begin(services, TenantId::OWN, keyed).await? {
            Begun::Done(accepted) => return Ok(accepted.into()),
            Begun::Work(once) => once,
        };
        let now = once.now();
        let row = body.value.into_row(now);
        if !insert(once.tx(), row.clone()).await? {
            return Err(once.refuse(external_id::taken()).await.into());
        }
        let (action, tenant) = (Action::TenantCreated, Some(row.id));
        audit::record_by(once.tx(), &operator, tenant, action, row.id, now).await?;
        Ok(once.finish(to_bytes(&Tenant::from(row))?).await?.into())
    }

    /// List tenants
    ///
    /// All of the platform.
    #[oai(path = "/", method = "get", operation_id = "tenants_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        _caller: Authorized<may::OperatePlatform>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
        /// Only the tenant with this external id.
        external_id: Query<Option<Text<ExternalId>>>,
    ) -> Result<Reply<Page<Tenant>>, ApiError> {
        let tenants = match &external_id.0 {
            Some(Text(id)) => tenant::Entity::by_external_id(id.as_str()),
            None => tenant::Entity::find(),
        };
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, tenants, tenant::Column::Id, |row| row.id)
            .await?;
        Reply::of(&page.map(Tenant::from))
    }

    /// Get a tenant
    ///
    /// By its id; what belongs to it has operations of its own.
    #[oai(path = "/:tenant_id", method = "get", operation_id = "tenants_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        _caller: Authorized<may::OperatePlatform>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
    ) -> Result<Reply<Tenant>, ApiError> {
        Reply::of(&find(&services.db, tenant_id.0.0).await?.into())
    }

    /// Change a tenant
    ///
    /// A field that is left out stays as it is. An `external_id` that another tenant has is 409 `external_id_taken`.
    #[oai(
        path = "/:tenant_id",
        method = "patch",
        operation_id = "tenants_update"
    )]
    async fn update(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
        body: StrictJson<TenantChanges>,
    ) -> Result<Reply<Tenant>, FailsWith<ExternalIdTaken>> {
        let id = tenant_id.0.0;
        let Some(changes) = body.value.into_changes()? else {
            return Ok(Reply::of(&find(&services.db, id).await?.into())?);
        };
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let change = tenant::Entity::update_many().set(changes);
        let changed = change.filter(tenant::Column::Id.eq(id)).exec(&tx).await;
        changed.map_err(external_id::taken_or)?;
        let row = find(&tx, id).await?;
        let action = Action::TenantChanged;
        audit::record_by(&tx, &operator, Some(id), action, id, now).await?;
        tx.commit().await?;
        Ok(Reply::of(&row.into())?)
    }

    /// Get or create a tenant by its external id
    ///
    /// Creates the tenant, or changes the one that there is to what the body says: a field that is left out gets its
    /// default, as at creation. Send it as often as you like, and from several places at once: there is one tenant.
    #[oai(
        path = "/by-external-id/:external_id",
        method = "put",
        operation_id = "tenants_put"
    )]
    async fn put(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        /// The id that your product knows it by.
        external_id: Path<Text<NamedInPath>>,
        body: StrictJson<NewTenant>,
    ) -> Result<Upserted<Tenant>, ApiError> {
        let mut new = body.value;
        let named = new.external_id.as_ref().map(|id| &id.0);
        let external_id = external_id.0.0.checked(named)?;
        new.check()?;
        new.external_id = Some(Text(external_id));
        put::put(services, &operator, new).await
    }
}

/// Whether the tenant was inserted: none was with its external id.
async fn insert(tx: &impl ConnectionTrait, row: tenant::Model) -> Result<bool, DbErr> {
    let inserted = tenant::Entity::insert(row.into_active_model())
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(inserted > 0)
}

async fn find(db: &impl ConnectionTrait, id: TenantId) -> Result<tenant::Model, ApiError> {
    let found = tenant::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("tenant"))
}
