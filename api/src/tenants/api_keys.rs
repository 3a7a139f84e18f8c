//! A tenant's API keys.

use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    types::Example,
};
use relaypost_shared::{
    clock::Timestamp,
    entities::{Texts, api_key},
    ids::{ApiKey as ApiKeyKind, Tenant},
};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, QueryFilter as _, sea_query::Expr,
};
use serde::{Deserialize, Serialize};

use crate::{
    Services,
    auth::{Authorized, NewKey, Scope, may, prefix_of},
    http::{
        ApiError, Checks, Created, Cursor, Limit, Moment, NoContent, Page, Paging, Ref, Reply,
        StrictJson, Text, TextValue as _, document::Tag, example_id, example_time,
    },
};

/// What a key is created from.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
struct NewApiKey {
    /// What people call it.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    /// What it may do.
    #[oai(validator(min_items = 1, unique_items))]
    scopes: Vec<Text<Scope>>,
    /// From when on it is refused. Without it the key never expires.
    expires_at: Option<Moment>,
}

impl Example for NewApiKey {
    fn example() -> Self {
        Self {
            name: "order service".to_owned(),
            scopes: vec![Text(Scope::Send), Text(Scope::Read)],
            expires_at: None,
        }
    }
}

impl NewApiKey {
    fn check(&self, now: Timestamp) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        checks.line("name", &self.name, 1..=200);
        let mut scopes = self.scopes.clone();
        scopes.sort_unstable();
        scopes.dedup();
        checks.require(!scopes.is_empty(), "scopes", || {
            "expected at least one scope".to_owned()
        });
        checks.require(scopes.len() == self.scopes.len(), "scopes", || {
            "a scope is given twice".to_owned()
        });
        let expires_at = self.expires_at.map(|at| at.0);
        checks.require(expires_at.is_none_or(|at| at > now), "expires_at", || {
            "expected a time to come".to_owned()
        });
        checks.finish()
    }
}

/// An API key, without the key itself.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct ApiKey {
    /// Its id.
    id: Ref<ApiKeyKind>,
    /// What people call it.
    name: String,
    /// The beginning of the key, to recognise it by.
    prefix: String,
    /// What it may do.
    scopes: Vec<Text<Scope>>,
    /// When it was created.
    created_at: Moment,
    /// From when on it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Moment>,
    /// When it was last used, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Moment>,
}

/// An API key with the key itself.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct CreatedApiKey {
    /// The key itself. This is the only time that it is shown.
    key: String,
    #[serde(flatten)]
    #[oai(flatten)]
    about: ApiKey,
}

impl From<api_key::Model> for ApiKey {
    fn from(row: api_key::Model) -> Self {
        let scopes = row.scopes.0.iter();
        Self {
            id: row.id.into(),
            name: row.name,
            prefix: row.prefix,
            scopes: scopes
                .filter_map(|word| Scope::read(word).ok().map(Text))
                .collect(),
            created_at: row.created_at.into(),
            expires_at: row.expires_at.map(Text),
            revoked_at: row.revoked_at.map(Text),
            last_used_at: row.last_used_at.map(Text),
        }
    }
}

impl Example for ApiKey {
    fn example() -> Self {
        let new = NewApiKey::example();
        Self {
            id: example_id().into(),
            name: new.name,
            prefix: prefix_of(example_id()),
            scopes: new.scopes,
            created_at: example_time().into(),
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        }
    }
}

impl Example for CreatedApiKey {
    fn example() -> Self {
        Self {
            key: format!(
                "{}_7YtK3hJp0sVd9wQx1zRb5nMf2cGa8eLu4iTo6yWqXvE",
                prefix_of(example_id())
            ),
            about: ApiKey::example(),
        }
    }
}

/// The operations on API keys.
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
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let (new, now) = (body.value, services.clock.now());
        new.check(now)?;
        let key = NewKey::generate(now);
        let row = api_key::Model {
            id: key.id,
            tenant_id: Some(tenant),
            name: new.name,
            prefix: prefix_of(key.id),
            secret_hash: key.hash.to_vec(),
            scopes: Texts(new.scopes.iter().map(ToString::to_string).collect()),
            created_at: now,
            expires_at: new.expires_at.map(|at| at.0),
            revoked_at: None,
            last_used_at: None,
        };
        api_key::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(&services.db)
            .await?;
        Created::of(&CreatedApiKey {
            key: key.text,
            about: row.into(),
        })
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
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let keys = api_key::Entity::of_tenant(tenant);
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, keys, api_key::Column::Id, |row| row.id)
            .await?;
        Reply::of(&page.map(ApiKey::from))
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
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let key = api_key::Entity::of_tenant(tenant)
            .filter(api_key::Column::Id.eq(key_id.0.0))
            .one(&services.db)
            .await?
            .ok_or_else(|| ApiError::not_found("API key"))?;
        api_key::Entity::update_many()
            .col_expr(
                api_key::Column::RevokedAt,
                Expr::value(services.clock.now()),
            )
            .filter(api_key::Column::Id.eq(key.id))
            .filter(api_key::Column::RevokedAt.is_null())
            .exec(&services.db)
            .await?;
        Ok(NoContent)
    }
}
