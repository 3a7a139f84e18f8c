//! The key that a newcomer begins with.

use relaypost_shared::{
    entities::{Texts, api_key},
    settings::AppEnv,
};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};

use super::{
    Scope,
    key::{NewKey, prefix_of},
};
use crate::Services;

impl Services {
    /// Makes a key of platform scope in a fresh development instance that was given no `ROOT_API_KEY`, and returns its
    /// text, which is shown this one time. In production, with a `ROOT_API_KEY`, and from the second start on there
    /// is none to make.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn first_key(&self) -> Result<Option<String>, DbErr> {
        if self.settings.env == AppEnv::Production || self.settings.root_api_key.is_some() {
            return Ok(None);
        }
        let platform = api_key::Column::TenantId.is_null();
        if api_key::Entity::find()
            .filter(platform)
            .one(&self.db)
            .await?
            .is_some()
        {
            return Ok(None);
        }
        let now = self.clock.now();
        let key = NewKey::generate(now);
        let row = api_key::Model {
            id: key.id,
            tenant_id: None,
            name: "first key".to_owned(),
            prefix: prefix_of(key.id),
            secret_hash: key.hash.to_vec(),
            scopes: Texts(vec![Scope::Platform.as_str().to_owned()]),
            created_at: now,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        row.into_active_model().insert(&self.db).await?;
        Ok(Some(key.text))
    }
}
