//! Users, for the operator of the platform.

mod body;
mod changes;

use std::collections::HashSet;

use poem::web::Data;
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    entities::{membership, tenant, user},
    ids::{User as UserKind, UserId},
    people::TokenPurpose,
    queue::Lane,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, sea_query::OnConflict,
};

use self::body::{Membership, NewUser, User, UserChanges};
use super::{address, attempts, mailed};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may},
    http::{
        ApiError, Code, Created, Cursor, FailsWith, Limit, NoContent, Page, Paging, Ref, Reply,
        StrictJson, Text, document::Tag, failures,
    },
    idempotency::SafeToRepeat,
};

failures! {
    /// There is a user with this address.
    UserExists = UserExists;
}

/// The operations on users.
#[derive(Debug)]
pub(crate) struct UsersApi;

#[OpenApi(prefix_path = "/v1/users", tag = "Tag::Users")]
impl UsersApi {
    /// Create a user
    ///
    /// Where sign-in needs a verified address, the verification mail goes out at once. Takes no `Idempotency-Key`, which
    /// would have a digest of the password remembered; created twice, the second is 409 `user_exists`.
    #[oai(path = "/", method = "post", operation_id = "users_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        by: Authorized<may::OperatePlatform>,
        body: StrictJson<NewUser>,
    ) -> Result<Created<User>, FailsWith<UserExists>> {
        let new = body.value;
        let address = address::parse("email", &new.email)?;
        new.check(&address)?;
        let hash = match new.password {
            Some(password) => Some(services.passwords.turn().await?.hash(password).await?),
            None => None,
        };
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = user::Model {
            name: new.name,
            password_hash: hash,
            platform: new.platform,
            ..blank(address, now)
        };
        if !insert(&tx, &row).await? {
            return Err(ApiError::new(
                Code::UserExists,
                "there is a user with this address already",
            )
            .into());
        }
        let created = (Action::UserCreated, format!("platform={}", row.platform));
        audit::record_detail(&tx, &by, None, created, row.id, now).await?;
        let roles = join(&tx, row.id, &new.memberships, now).await?;
        for role in &roles {
            let tenant = Some(role.tenant_id);
            let added = (Action::MemberAdded, format!("role={}", role.role));
            audit::record_detail(&tx, &by, tenant, added, row.id, now).await?;
        }
        let mut jobs = Vec::new();
        if services.settings.auth.email_verification_required {
            let purpose = TokenPurpose::VerifyEmail;
            jobs.push(mailed::write(&tx, services, &row, purpose, &by.request_id, now).await?);
        }
        tx.commit().await?;
        services.pusher.push(Lane::Emails, jobs);
        Ok(Created::of(&User::new(row, &roles))?)
    }

    /// List users
    ///
    /// Newest first.
    #[oai(path = "/", method = "get", operation_id = "users_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        _by: Authorized<may::OperatePlatform>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<User>>, ApiError> {
        let users = user::Entity::find();
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, users, user::Column::Id, |row| row.id)
            .await?;
        let roles = roles_of(&services.db, page.data.iter().map(|row| row.id)).await?;
        Reply::of(&page.map(|row| User::new(row, &roles)))
    }

    /// Get a user
    ///
    /// With their roles. Nobody is shown a password, or what is stored of it.
    #[oai(path = "/:user_id", method = "get", operation_id = "users_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        _by: Authorized<may::OperatePlatform>,
        /// The user.
        user_id: Path<Ref<UserKind>>,
    ) -> Result<Reply<User>, ApiError> {
        let row = find(&services.db, user_id.0.0).await?;
        let roles = roles_of(&services.db, [row.id]).await?;
        Reply::of(&User::new(row, &roles))
    }

    /// Change a user
    ///
    /// What is left out stays as it is. Nothing keeps the last platform user from being disabled: `ROOT_API_KEY` is the way
    /// back in.
    #[oai(path = "/:user_id", method = "patch", operation_id = "users_update")]
    async fn update(
        &self,
        Data(services): Data<&Services>,
        by: Authorized<may::OperatePlatform>,
        /// The user.
        user_id: Path<Ref<UserKind>>,
        body: StrictJson<UserChanges>,
    ) -> Result<Reply<User>, ApiError> {
        let row = changes::make(services, &by, user_id.0.0, body.value).await?;
        let roles = roles_of(&services.db, [row.id]).await?;
        Reply::of(&User::new(row, &roles))
    }

    /// Delete a user
    ///
    /// With their sessions, roles and linked accounts. The audit log keeps what they have done.
    #[oai(path = "/:user_id", method = "delete", operation_id = "users_delete")]
    async fn delete(
        &self,
        Data(services): Data<&Services>,
        by: Authorized<may::OperatePlatform>,
        /// The user.
        user_id: Path<Ref<UserKind>>,
    ) -> Result<NoContent, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = lock(&tx, user_id.0.0).await?;
        let row = row.ok_or_else(|| ApiError::not_found("user"))?;
        user::Entity::delete_by_id(row.id).exec(&tx).await?;
        attempts::forget(&tx, &row.email).await?;
        audit::record_by(&tx, &by, None, Action::UserDeleted, row.id, now).await?;
        tx.commit().await?;
        Ok(NoContent)
    }

    /// Unlock a user
    ///
    /// Lifts the lock that failed sign-ins have brought about. When there is none nothing changes.
    #[oai(
        path = "/:user_id/unlock",
        method = "post",
        operation_id = "users_unlock"
    )]
    async fn unlock(
        &self,
        Data(services): Data<&Services>,
        by: Authorized<may::OperatePlatform>,
        _again: SafeToRepeat,
        /// The user.
        user_id: Path<Ref<UserKind>>,
    ) -> Result<NoContent, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let row = find(&tx, user_id.0.0).await?;
        if attempts::forget(&tx, &row.email).await? {
            audit::record_by(&tx, &by, None, Action::SignInUnlocked, row.id, now).await?;
        }
        tx.commit().await?;
        Ok(NoContent)
    }
}

/// A user with an address and nothing else.
pub(super) fn blank(email: String, now: Timestamp) -> user::Model {
    user::Model {
        id: UserId::generate(now),
        email,
        name: None,
        password_hash: None,
        platform: false,
        email_verified_at: None,
        disabled_at: None,
        last_signed_in_at: None,
        created_at: now,
        updated_at: now,
    }
}

/// Writes a new user. Says no when there is one with this address.
pub(super) async fn insert(tx: &Transaction, row: &user::Model) -> Result<bool, ApiError> {
    let known = OnConflict::column(user::Column::Email)
        .do_nothing()
        .to_owned();
    let inserted = user::Entity::insert(row.clone().into_active_model())
        .on_conflict(known)
        .exec_without_returning(tx)
        .await?;
    Ok(inserted > 0)
}

/// A user.
///
/// # Errors
/// 404 when there is none.
pub(super) async fn find(db: &impl ConnectionTrait, id: UserId) -> Result<user::Model, ApiError> {
    let found = user::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("user"))
}

/// A user, whom nobody else changes until the end of the transaction. Whoever changes what is a user's does this first.
pub(in crate::people) async fn lock(
    tx: &Transaction,
    id: UserId,
) -> Result<Option<user::Model>, DbErr> {
    user::Entity::find_by_id(id).lock_exclusive().one(tx).await
}

async fn roles_of(
    db: &impl ConnectionTrait,
    users: impl IntoIterator<Item = UserId>,
) -> Result<Vec<membership::Model>, ApiError> {
    let roles = membership::Entity::find()
        .filter(membership::Column::UserId.is_in(users))
        .order_by_asc(membership::Column::TenantId)
        .all(db)
        .await?;
    Ok(roles)
}

/// Gives a new user their roles.
async fn join(
    tx: &Transaction,
    user: UserId,
    wanted: &[Membership],
    now: Timestamp,
) -> Result<Vec<membership::Model>, ApiError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let ids = wanted.iter().map(|one| one.tenant_id.0);
    let tenants = tenant::Entity::find()
        .filter(tenant::Column::Id.is_in(ids))
        .all(tx)
        .await?;
    let known: HashSet<_> = tenants.iter().map(|tenant| tenant.id).collect();
    let unknown = wanted
        .iter()
        .position(|one| !known.contains(&one.tenant_id.0));
    if let Some(index) = unknown {
        let path = format!("memberships[{index}].tenant_id");
        return Err(ApiError::field(path, "there is no such tenant"));
    }
    let roles: Vec<membership::Model> = wanted
        .iter()
        .map(|one| membership::Model {
            user_id: user,
            tenant_id: one.tenant_id.0,
            role: one.role.0,
            created_at: now,
        })
        .collect();
    let rows = roles.iter().cloned().map(|role| role.into_active_model());
    membership::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(roles)
}
