//! The key that a fresh development instance begins with, so that somebody who tries it out need not make one up.

use relaypost_shared::{
    entities::{Texts, api_key},
    settings::AppEnv,
};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _,
};

use super::{NewKey, Scope, prefix_of};
use crate::Services;

impl Services {
    /// Makes a key of platform scope and returns its text, which is stored nowhere: in development, when there is no
    /// `ROOT_API_KEY` and no platform key yet. Otherwise nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn first_key(&self) -> Result<Option<String>, DbErr> {
        let wanted =
            self.settings.env == AppEnv::Development && self.settings.root_api_key.is_none();
        if !wanted || self.has_platform_key().await? {
            return Ok(None);
        }
        let now = self.clock.now();
        let key = NewKey::generate(now);
        let row = api_key::Model {
            id: key.id,
            tenant_id: None,
            name: "first platform key".to_owned(),
            prefix: prefix_of(key.id),
            secret_hash: key.hash.to_vec(),
            scopes: Texts(vec![Scope::Platform.as_str().to_owned()]),
            created_at: now,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        api_key::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.db)
            .await?;
        Ok(Some(key.text))
    }

    async fn has_platform_key(&self) -> Result<bool, DbErr> {
        let keys = api_key::Entity::find()
            .filter(api_key::Column::TenantId.is_null())
            .count(&self.db)
            .await?;
        Ok(keys > 0)
    }
}
