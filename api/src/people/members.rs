//! The members of a tenant, for its administrators.

use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    types::Example,
};
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    entities::{membership, user},
    ids::{self, TenantId, UserId},
    people::{Role, TokenPurpose},
    queue::Lane,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
    sea_query::{Expr, OnConflict},
};
use serde::{Deserialize, Serialize};

use super::{address, attempts, mailed, users};
use crate::{
    Services,
    audit::{self, Action, By},
    auth::{Authorized, may},
    http::{
        ApiError, Code, Created, Cursor, Limit, Moment, NoContent, Page, Paging, Ref, Reply,
        StrictJson, Text, document::Tag, example_id, example_time,
    },
    idempotency::SafeToRepeat,
};

/// Somebody to add to a tenant.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct NewMember {
    /// Their address.
    #[oai(validator(max_length = 254))]
    email: String,
    /// What they may do in the tenant.
    role: Text<Role>,
}

impl Example for NewMember {
    fn example() -> Self {
        Self {
            email: "ann@example.com".to_owned(),
            role: Text(Role::Operator),
        }
    }
}

/// Another role for a member.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct RoleChange {
    /// What they may do in the tenant from now on.
    role: Text<Role>,
}

impl Example for RoleChange {
    fn example() -> Self {
        Self {
            role: Text(Role::Viewer),
        }
    }
}

/// A user with a role in a tenant.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Member {
    /// The user.
    user_id: Ref<ids::User>,
    /// Their address.
    email: String,
    /// What people call them.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// What they may do in the tenant.
    role: Text<Role>,
    /// Since when they are a member.
    created_at: Moment,
}

impl Member {
    fn new(role: &membership::Model, user: &user::Model) -> Self {
        Self {
            user_id: user.id.into(),
            email: user.email.clone(),
            name: user.name.clone(),
            role: Text(role.role),
            created_at: role.created_at.into(),
        }
    }
}

impl Example for Member {
    fn example() -> Self {
        Self {
            user_id: example_id().into(),
            email: "ann@example.com".to_owned(),
            name: Some("Ann Lee".to_owned()),
            role: Text(Role::Operator),
            created_at: example_time().into(),
        }
    }
}

/// The operations on members.
#[derive(Debug)]
pub(crate) struct MembersApi;

#[OpenApi(prefix_path = "/v1/tenants", tag = "Tag::Users")]
impl MembersApi {
    /// List a tenant's members
    ///
    /// With their roles, newest first.
    #[oai(
        path = "/:tenant_id/members",
        method = "get",
        operation_id = "members_list"
    )]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<Member>>, ApiError> {
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let its = membership::Entity::find().filter(membership::Column::TenantId.eq(tenant));
        let column = membership::Column::UserId;
        let page = Paging::new(limit.0, cursor.0)
            .load(&services.db, its, column, |row| row.user_id)
            .await?;
        let users = user::Entity::find()
            .filter(user::Column::Id.is_in(page.data.iter().map(|row| row.user_id)))
            .all(&services.db)
            .await?;
        let shown = |role: &membership::Model| {
            let user = users.iter().find(|user| user.id == role.user_id)?;
            Some(Member::new(role, user))
        };
        Reply::of(&Page {
            data: page.data.iter().filter_map(shown).collect(),
            next_cursor: page.next_cursor,
        })
    }

    /// Add a member
    ///
    /// By their address, whether or not there is a user with it: a new one chooses a password by `auth_password_forgot`.
    /// Who is a member already gets this role. Takes no `Idempotency-Key`: twice is once.
    #[oai(
        path = "/:tenant_id/members",
        method = "post",
        operation_id = "members_add"
    )]
    async fn add(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
        body: StrictJson<NewMember>,
    ) -> Result<Created<Member>, ApiError> {
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let address = address::parse("email", &body.value.email)?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let new = users::blank(address.clone(), now);
        let (user, jobs) = if users::insert(&tx, &new).await? {
            audit::record_by(&tx, &admin.by, None, Action::UserCreated, new.id, now).await?;
            let jobs = if services.settings.auth.email_verification_required {
                let (purpose, request_id) = (TokenPurpose::VerifyEmail, &admin.by.request_id);
                vec![mailed::write(&tx, services, &new, purpose, request_id, now).await?]
            } else {
                Vec::new()
            };
            (new, jobs)
        } else {
            let known = address::user_of(&tx, &address).await?;
            let known = match known {
                Some(user) => users::lock(&tx, user.id).await?,
                None => None,
            };
            (
                known.ok_or_else(|| ApiError::not_found("user"))?,
                Vec::new(),
            )
        };
        let role = set(&tx, &admin.by, tenant, user.id, body.value.role.0, now).await?;
        tx.commit().await?;
        services.pusher.push(Lane::Emails, jobs);
        Created::of(&Member::new(&role, &user))
    }

    /// Change a member's role
    ///
    /// It counts from their next request on.
    #[oai(
        path = "/:tenant_id/members/:user_id",
        method = "put",
        operation_id = "members_update"
    )]
    async fn update(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
        /// The user.
        user_id: Path<Ref<ids::User>>,
        body: StrictJson<RoleChange>,
    ) -> Result<Reply<Member>, ApiError> {
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let (_, user) = find_locked(&tx, tenant, user_id.0.0).await?;
        let role = set(&tx, &admin.by, tenant, user.id, body.value.role.0, now).await?;
        tx.commit().await?;
        Reply::of(&Member::new(&role, &user))
    }

    /// Remove a member
    ///
    /// The user stays, without a role in this tenant. It counts from their next request on.
    #[oai(
        path = "/:tenant_id/members/:user_id",
        method = "delete",
        operation_id = "members_remove"
    )]
    async fn remove(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
        /// The user.
        user_id: Path<Ref<ids::User>>,
    ) -> Result<NoContent, ApiError> {
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let (_, user) = find_locked(&tx, tenant, user_id.0.0).await?;
        membership::Entity::delete_by_id((user.id, tenant))
            .exec(&tx)
            .await?;
        let action = Action::MemberRemoved;
        audit::record_by(&tx, &admin.by, Some(tenant), action, user.id, now).await?;
        tx.commit().await?;
        Ok(NoContent)
    }

    /// Unlock a member
    ///
    /// Lifts the lock that failed sign-ins have brought about. When there is none nothing changes. Who was a user before they
    /// were added here, or is of another tenant too or of the platform, is unlocked by the platform only (403): else an
    /// administrator could add anybody and go on guessing.
    #[oai(
        path = "/:tenant_id/members/:user_id/unlock",
        method = "post",
        operation_id = "members_unlock"
    )]
    async fn unlock(
        &self,
        Data(services): Data<&Services>,
        admin: Authorized<may::AdministerTenantInPath>,
        _again: SafeToRepeat,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
        /// The user.
        user_id: Path<Ref<ids::User>>,
    ) -> Result<NoContent, ApiError> {
        let tenant = admin.of(services, tenant_id.0.0).await?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let (role, user) = find_locked(&tx, tenant, user_id.0.0).await?;
        let came_here_first = role.created_at == user.created_at;
        let of_this_tenant =
            came_here_first && !user.platform && !is_elsewhere(&tx, tenant, user.id).await?;
        if !admin.is_platform() && !of_this_tenant {
            return Err(ApiError::new(
                Code::Forbidden,
                "this user was there before they were added, or is not of this tenant alone: it takes the scope \
                 `platform` to unlock them",
            ));
        }
        if attempts::forget(&tx, &user.email).await? {
            let action = Action::SignInUnlocked;
            audit::record_by(&tx, &admin.by, Some(tenant), action, user.id, now).await?;
        }
        tx.commit().await?;
        Ok(NoContent)
    }
}

/// A member of a tenant, who stays as they are until the end of the transaction.
///
/// # Errors
/// 404 when the user has no role in it, whether or not there is such a user.
async fn find_locked(
    tx: &Transaction,
    tenant: TenantId,
    user: UserId,
) -> Result<(membership::Model, user::Model), ApiError> {
    let user = users::lock(tx, user).await?;
    let user = user.ok_or_else(|| ApiError::not_found("member"))?;
    let role = membership::Entity::find_by_id((user.id, tenant))
        .one(tx)
        .await?;
    let role = role.ok_or_else(|| ApiError::not_found("member"))?;
    Ok((role, user))
}

/// Whether a user has a role in another tenant than this one.
async fn is_elsewhere(
    db: &impl ConnectionTrait,
    tenant: TenantId,
    user: UserId,
) -> Result<bool, DbErr> {
    let other = membership::Entity::find()
        .filter(membership::Column::UserId.eq(user))
        .filter(membership::Column::TenantId.ne(tenant))
        .one(db)
        .await?;
    Ok(other.is_some())
}

/// Gives somebody a role in a tenant, in place of the one they may have.
async fn set(
    tx: &Transaction,
    by: &By,
    tenant: TenantId,
    user: UserId,
    role: Role,
    now: Timestamp,
) -> Result<membership::Model, ApiError> {
    let new = membership::Model {
        user_id: user,
        tenant_id: tenant,
        role,
        created_at: now,
    };
    let key = [membership::Column::UserId, membership::Column::TenantId];
    let added = membership::Entity::insert(new.clone().into_active_model())
        .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    if added > 0 {
        let added = (Action::MemberAdded, format!("role={role}"));
        audit::record_detail(tx, by, Some(tenant), added, user, now).await?;
        return Ok(new);
    }
    let changed = membership::Entity::update_many()
        .col_expr(membership::Column::Role, Expr::value(role.as_str()))
        .filter(membership::Column::UserId.eq(user))
        .filter(membership::Column::TenantId.eq(tenant))
        .filter(membership::Column::Role.ne(role))
        .exec(tx)
        .await?;
    if changed.rows_affected > 0 {
        let changed = (Action::MemberChanged, format!("role={role}"));
        audit::record_detail(tx, by, Some(tenant), changed, user, now).await?;
    }
    let row = membership::Entity::find_by_id((user, tenant))
        .one(tx)
        .await?;
    row.ok_or_else(|| ApiError::not_found("member"))
}
