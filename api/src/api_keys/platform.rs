//! The platform's keys, for those who operate it. `ROOT_API_KEY` makes the first one and may then be taken out of the
//! settings.

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::ids::ApiKey as ApiKeyKind;

use super::{
    body::{CreatedPlatformKey, NewPlatformKey, PlatformKey, RotateKey},
    store::{ApiKeyEnded, NewRow, Owner},
};
use crate::{
    Services,
    auth::{Authorized, Scope, may},
    http::{
        ApiError, Created, Cursor, FailsWith, Limit, NoContent, Page, Ref, Reply, StrictJson, Text,
        document::Tag,
    },
};

/// The operations on the platform's keys.
#[derive(Debug)]
pub(crate) struct PlatformKeysApi;

#[OpenApi(prefix_path = "/v1/platform/api-keys", tag = "Tag::ApiKeys")]
impl PlatformKeysApi {
    /// Create a platform key
    ///
    /// It has the scope `platform`: everything, of every tenant. The answer is the only place where the key itself ever
    /// stands. Takes no `Idempotency-Key`, which would have the answer remembered, and the key with it.
    #[oai(path = "/", method = "post", operation_id = "platform_keys_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        body: StrictJson<NewPlatformKey>,
    ) -> Result<Created<CreatedPlatformKey>, ApiError> {
        let new = body.value;
        new.check(services.clock.now())?;
        let issued = Owner::platform(services, &operator)
            .create(NewRow {
                name: new.name,
                scopes: vec![Scope::Platform],
                expires_at: new.expires_at.map(|at| at.0),
            })
            .await?;
        Created::of(&issued.into())
    }

    /// List platform keys
    ///
    /// Revoked and expired ones are listed too. The key of the service's settings is not among them.
    #[oai(path = "/", method = "get", operation_id = "platform_keys_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<PlatformKey>>, ApiError> {
        let owner = Owner::platform(services, &operator);
        let page = owner.list(limit.0, cursor.0).await?;
        Reply::of(&page.map(PlatformKey::from))
    }

    /// Get a platform key
    ///
    /// All but the key itself, which is stored nowhere.
    #[oai(path = "/:key_id", method = "get", operation_id = "platform_keys_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        /// The key's id.
        key_id: Path<Ref<ApiKeyKind>>,
    ) -> Result<Reply<PlatformKey>, ApiError> {
        let owner = Owner::platform(services, &operator);
        Reply::of(&owner.get(key_id.0.0).await?.into())
    }

    /// Rotate a platform key
    ///
    /// As a tenant's key is rotated: a new key, and the old one goes on for the grace period. One that is revoked or has
    /// expired is 409 `api_key_ended`.
    #[oai(
        path = "/:key_id/rotate",
        method = "post",
        operation_id = "platform_keys_rotate"
    )]
    async fn rotate(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        /// The key's id.
        key_id: Path<Ref<ApiKeyKind>>,
        body: StrictJson<RotateKey>,
    ) -> Result<Created<CreatedPlatformKey>, FailsWith<ApiKeyEnded>> {
        let rotation = body.value.check(services.clock.now())?;
        let owner = Owner::platform(services, &operator);
        Ok(Created::of(
            &owner.rotate(key_id.0.0, rotation).await?.into(),
        )?)
    }

    /// Revoke a platform key
    ///
    /// From now on it is refused, be it the last one: the key of the service's settings, `ROOT_API_KEY`, makes another.
    #[oai(
        path = "/:key_id",
        method = "delete",
        operation_id = "platform_keys_revoke"
    )]
    async fn revoke(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        /// The key's id.
        key_id: Path<Ref<ApiKeyKind>>,
    ) -> Result<NoContent, ApiError> {
        Owner::platform(services, &operator)
            .revoke(key_id.0.0)
            .await?;
        Ok(NoContent)
    }
}
