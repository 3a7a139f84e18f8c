//! Where keys are kept, a tenant's and the platform's alike.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    entities::{Texts, api_key},
    ids::{KeyId, TenantId},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _, Select, sea_query::Expr,
};

use crate::{
    Services,
    audit::{self, Action, By},
    auth::{NewKey, Scope, may, prefix_of},
    http::{ApiError, Code, Cursor, Limit, Page, Paging, Text, failures},
};

failures! {
    /// The key is revoked or has expired; create a new one.
    ApiKeyEnded = ApiKeyEnded;
}

/// Whose keys a request is about, and who asks.
pub(super) struct Owner<'a> {
    services: &'a Services,
    /// None: the platform.
    tenant: Option<TenantId>,
    by: &'a By,
}

/// What is decided about a key before it is made.
pub(super) struct NewRow {
    /// What people call it.
    pub(super) name: String,
    /// What it may do.
    pub(super) scopes: Vec<Scope>,
    /// From when on it is refused, if ever.
    pub(super) expires_at: Option<Timestamp>,
}

/// A key that was just made, with its text, which is stored nowhere.
pub(super) struct Issued {
    /// The key itself.
    pub(super) text: String,
    /// What is stored.
    pub(super) row: api_key::Model,
}

/// How a key is rotated.
pub(super) struct Rotation {
    /// How long the old key goes on.
    pub(super) grace: TimeDelta,
    /// From when on the new key is refused; none: as the old one would have been.
    pub(super) expires_at: Option<Timestamp>,
}

impl<'a> Owner<'a> {
    /// The keys of the tenant that the path names.
    ///
    /// # Errors
    /// 404 when there is no such tenant or the caller does not administer it.
    pub(super) async fn of_tenant(
        services: &'a Services,
        admin: &'a may::Admin,
        tenant: TenantId,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            services,
            tenant: Some(admin.of(services, tenant).await?),
            by: &admin.by,
        })
    }

    /// The keys of the platform.
    pub(super) fn platform(services: &'a Services, by: &'a By) -> Self {
        Self {
            services,
            tenant: None,
            by,
        }
    }

    fn keys(&self) -> Select<api_key::Entity> {
        match self.tenant {
            Some(tenant) => api_key::Entity::of_tenant(tenant),
            None => api_key::Entity::of_platform(),
        }
    }

    /// A page of the keys, the newest first.
    pub(super) async fn list(
        &self,
        limit: Option<Limit>,
        cursor: Option<Text<Cursor>>,
    ) -> Result<Page<api_key::Model>, ApiError> {
        let (db, id) = (&self.services.db, api_key::Column::Id);
        let page = Paging::new(limit, cursor).load(db, self.keys(), id, |row| row.id);
        Ok(page.await?)
    }

    /// One of the keys.
    ///
    /// # Errors
    /// 404 when there is none with this id here.
    pub(super) async fn get(&self, id: KeyId) -> Result<api_key::Model, ApiError> {
        let row = self.keys().filter(api_key::Column::Id.eq(id));
        let row = row.one(&self.services.db).await?;
        row.ok_or_else(|| ApiError::not_found("API key"))
    }

    /// Makes a key.
    pub(super) async fn create(&self, new: NewRow) -> Result<Issued, ApiError> {
        let now = self.services.clock.now();
        let tx = begin_write(&self.services.db).await?;
        let issued = self.insert(&tx, new, now).await?;
        self.note_created(&tx, &issued.row, now).await?;
        tx.commit().await?;
        Ok(issued)
    }

    /// Makes a key's successor and lets the key itself end with the grace.
    ///
    /// # Errors
    /// 404 when there is none with this id here; 409 when it has ended already.
    pub(super) async fn rotate(&self, id: KeyId, rotation: Rotation) -> Result<Issued, ApiError> {
        let now = self.services.clock.now();
        let tx = begin_write(&self.services.db).await?;
        let old = self.held(&tx, id).await?;
        let expired = old.expires_at.is_some_and(|at| at <= now);
        if old.revoked_at.is_some() || expired {
            return Err(ApiError::new(
                Code::ApiKeyEnded,
                "it is revoked or has expired; create a new one",
            ));
        }
        let new = NewRow {
            name: old.name,
            scopes: words(&old.scopes),
            expires_at: rotation.expires_at.or(old.expires_at),
        };
        let ends = now + rotation.grace;
        let ends = old.expires_at.map_or(ends, |at| at.min(ends));
        api_key::Entity::update_many()
            .col_expr(api_key::Column::ExpiresAt, Expr::value(ends))
            .filter(api_key::Column::Id.eq(id))
            .exec(&tx)
            .await?;
        let issued = self.insert(&tx, new, now).await?;
        self.note(&tx, Action::ApiKeyRotated, id, now).await?;
        self.note_created(&tx, &issued.row, now).await?;
        tx.commit().await?;
        self.services.keys.changed(id);
        Ok(issued)
    }

    /// Ends a key. One that is revoked already stays as it is.
    ///
    /// # Errors
    /// 404 when there is none with this id here.
    pub(super) async fn revoke(&self, id: KeyId) -> Result<(), ApiError> {
        let now = self.services.clock.now();
        let tx = begin_write(&self.services.db).await?;
        if self.held(&tx, id).await?.revoked_at.is_some() {
            return Ok(());
        }
        api_key::Entity::update_many()
            .col_expr(api_key::Column::RevokedAt, Expr::value(now))
            .filter(api_key::Column::Id.eq(id))
            .exec(&tx)
            .await?;
        self.note(&tx, Action::ApiKeyRevoked, id, now).await?;
        tx.commit().await?;
        self.services.keys.changed(id);
        Ok(())
    }

    /// One of the keys, which nobody else changes before this transaction ends.
    async fn held(&self, tx: &impl ConnectionTrait, id: KeyId) -> Result<api_key::Model, ApiError> {
        let row = self.keys().filter(api_key::Column::Id.eq(id));
        let row = row.lock_exclusive().one(tx).await?;
        row.ok_or_else(|| ApiError::not_found("API key"))
    }

    async fn insert(
        &self,
        tx: &impl ConnectionTrait,
        new: NewRow,
        now: Timestamp,
    ) -> Result<Issued, ApiError> {
        let key = NewKey::generate(now);
        let scopes = new.scopes.iter().map(|scope| scope.as_str().to_owned());
        let row = api_key::Model {
            id: key.id,
            tenant_id: self.tenant,
            name: new.name,
            prefix: prefix_of(key.id),
            secret_hash: key.hash.to_vec(),
            scopes: Texts(scopes.collect()),
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        api_key::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(tx)
            .await?;
        Ok(Issued {
            text: key.text,
            row,
        })
    }

    async fn note_created(
        &self,
        tx: &impl ConnectionTrait,
        row: &api_key::Model,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let created = (
            Action::ApiKeyCreated,
            format!("scopes={}", row.scopes.0.join(",")),
        );
        audit::record_detail(tx, self.by, self.tenant, created, row.id, now).await?;
        Ok(())
    }

    async fn note(
        &self,
        tx: &impl ConnectionTrait,
        action: Action,
        id: KeyId,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        audit::record_by(tx, self.by, self.tenant, action, id, now).await?;
        Ok(())
    }
}

/// The scopes that a row names.
pub(super) fn words(scopes: &Texts) -> Vec<Scope> {
    let words = scopes.0.iter();
    words.filter_map(|word| Scope::from_word(word)).collect()
}
