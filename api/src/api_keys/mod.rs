//! API keys: what programs sign in with. Those of a tenant stand below it, those of the platform stand alone; both are
//! kept, listed, rotated and revoked in the same way ([`store`]).

mod body;
mod platform;
mod store;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::ids::{ApiKey as ApiKeyKind, Tenant};

use self::{
    body::{ApiKey, CreatedApiKey, NewApiKey, RotateKey},
    store::{ApiKeyEnded, NewRow, Owner},
};
use crate::{
    Services,
    auth::{Authorized, may},
    http::{
        ApiError, Created, Cursor, FailsWith, Limit, NoContent, Page, Ref, Reply, StrictJson, Text,
        document::Tag,
    },
};

pub(crate) use self::platform::PlatformKeysApi;

/// The operations on a tenant's API keys.
#[derive(Debug)]
pub(crate) struct ApiKeysApi;

#[OpenApi(prefix_path = "/v1/tenants", tag = "Tag::ApiKeys")]
impl ApiKeysApi {
    /// Create an API key
    ///
    /// The answer is the only place where the key itself ever stands: only a hash of it is stored.
    /// Takes no `Idempotency-Key`, which would have the answer remembered, and the key with it.
    #[oai(
        path = "/:tenant_id/api-keys",
        method = "post",
        operation_id = "api_keys_create"
    )]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<Tenant>>,
        body: StrictJson<NewApiKey>,
    ) -> Result<Created<CreatedApiKey>, ApiError> {
        let owner = Owner::of_tenant(services, &admin, tenant_id.0.0).await?;
        let new = body.value;
        new.check(services.clock.now())?;
        let issued = owner
            .create(NewRow {
                name: new.name,
                scopes: new.scopes.iter().map(|scope| scope.0).collect(),
                expires_at: new.expires_at.map(|at| at.0),
            })
            .await?;
        Created::of(&issued.into())
    }

    /// List API keys
    ///
    /// Revoked and expired ones are listed too.
    #[oai(
        path = "/:tenant_id/api-keys",
        method = "get",
        operation_id = "api_keys_list"
    )]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<Tenant>>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<ApiKey>>, ApiError> {
        let owner = Owner::of_tenant(services, &admin, tenant_id.0.0).await?;
        let page = owner.list(limit.0, cursor.0).await?;
        Reply::of(&page.map(ApiKey::from))
    }

    /// Get an API key
    ///
    /// All but the key itself, which is stored nowhere. One that is revoked or has expired can be looked at too.
    #[oai(
        path = "/:tenant_id/api-keys/:key_id",
        method = "get",
        operation_id = "api_keys_get"
    )]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<Tenant>>,
        /// The key's id.
        key_id: Path<Ref<ApiKeyKind>>,
    ) -> Result<Reply<ApiKey>, ApiError> {
        let owner = Owner::of_tenant(services, &admin, tenant_id.0.0).await?;
        Reply::of(&owner.get(key_id.0.0).await?.into())
    }

    /// Rotate an API key
    ///
    /// Makes a key with the same name and the same scopes, which is shown this once. The old one goes on for the grace
    /// period, so that whoever uses it can change over, and is refused from then on. A key that is revoked or has expired
    /// is not rotated: 409 `api_key_ended`. Takes no `Idempotency-Key`: a rotation that is sent again is a second rotation.
    #[oai(
        path = "/:tenant_id/api-keys/:key_id/rotate",
        method = "post",
        operation_id = "api_keys_rotate"
    )]
    async fn rotate(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<Tenant>>,
        /// The key's id.
        key_id: Path<Ref<ApiKeyKind>>,
        body: StrictJson<RotateKey>,
    ) -> Result<Created<CreatedApiKey>, FailsWith<ApiKeyEnded>> {
        let owner = Owner::of_tenant(services, &admin, tenant_id.0.0).await?;
        let rotation = body.value.check(services.clock.now())?;
        Ok(Created::of(
            &owner.rotate(key_id.0.0, rotation).await?.into(),
        )?)
    }

    /// Revoke an API key
    ///
    /// From now on it is refused. It stays in the list.
    #[oai(
        path = "/:tenant_id/api-keys/:key_id",
        method = "delete",
        operation_id = "api_keys_revoke"
    )]
    async fn revoke(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<Tenant>>,
        /// The key's id.
        key_id: Path<Ref<ApiKeyKind>>,
    ) -> Result<NoContent, ApiError> {
        let owner = Owner::of_tenant(services, &admin, tenant_id.0.0).await?;
        owner.revoke(key_id.0.0).await?;
        Ok(NoContent)
    }
}
