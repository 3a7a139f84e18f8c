//! What somebody who has signed in sees and changes of themselves.

use poem::web::Data;
use poem_openapi::{Object, OpenApi, types::Example};
use relaypost_shared::{
    db::begin_write,
    entities::{membership, tenant, user},
    ids,
    people::{Role, SessionEnd, TokenPurpose},
};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _, sea_query::Expr,
};
use serde::{Deserialize, Serialize};

use super::{
    attempts::Attempt,
    failures::{SignInLocked, UserGone},
    mailed, passwords, sessions, users,
};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may},
    http::{
        ApiError, Checks, FailsWith, NoContent, Ref, Reply, StrictJson, Text, document::Tag,
        example_id,
    },
};

/// Somebody who has signed in.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
struct Me {
    /// Their id.
    id: Ref<ids::User>,
    /// Their address.
    email: String,
    /// What people call them.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether they may do everything, of every tenant.
    platform: bool,
    /// Whether they have shown that the address is theirs.
    email_verified: bool,
    /// The session of the access token.
    session_id: Ref<ids::Session>,
    /// What they may do where.
    memberships: Vec<MyRole>,
}

/// A role in a tenant.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct MyRole {
    /// The tenant.
    tenant_id: Ref<ids::Tenant>,
    /// What people call the tenant.
    tenant_name: String,
    /// What they may do there.
    role: Text<Role>,
}

impl Example for Me {
    fn example() -> Self {
        Self {
            id: example_id().into(),
            email: "ann@example.com".to_owned(),
            name: Some("Ann Lee".to_owned()),
            platform: false,
            email_verified: true,
            session_id: example_id().into(),
            memberships: vec![MyRole::example()],
        }
    }
}

impl Example for MyRole {
    fn example() -> Self {
        Self {
            tenant_id: example_id().into(),
            tenant_name: "Acme".to_owned(),
            role: Text(Role::Operator),
        }
    }
}

/// A new password for oneself.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct PasswordChange {
    /// The password until now.
    #[oai(validator(max_length = 1024))]
    current: String,
    /// The password from now on: 12 to 128 characters.
    #[oai(validator(min_length = 12, max_length = 128))]
    new: String,
}

impl Example for PasswordChange {
    fn example() -> Self {
        Self {
            current: "correct horse battery staple".to_owned(),
            new: "a longer one than that before".to_owned(),
        }
    }
}

/// The operations on oneself.
#[derive(Debug)]
pub(crate) struct MyselfApi;

#[OpenApi(prefix_path = "/v1/auth", tag = "Tag::SignIn")]
impl MyselfApi {
    /// Who am I
    ///
    /// Your address, your session and your roles.
    #[oai(path = "/me", method = "get", operation_id = "auth_me")]
    async fn me(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::BeSignedIn>,
    ) -> Result<Reply<Me>, FailsWith<UserGone>> {
        let user = users::find(&services.db, caller.user).await?;
        let roles = membership::Entity::find()
            .filter(membership::Column::UserId.eq(user.id))
            .order_by_asc(membership::Column::TenantId)
            .all(&services.db)
            .await?;
        let tenants = tenant::Entity::find()
            .filter(tenant::Column::Id.is_in(roles.iter().map(|role| role.tenant_id)))
            .all(&services.db)
            .await?;
        let memberships = roles.iter().filter_map(|role| {
            let tenant = tenants.iter().find(|tenant| tenant.id == role.tenant_id)?;
            Some(MyRole {
                tenant_id: tenant.id.into(),
                tenant_name: tenant.name.clone(),
                role: Text(role.role),
            })
        });
        Ok(Reply::of(&Me {
            id: user.id.into(),
            memberships: memberships.collect(),
            email_verified: user.email_verified_at.is_some(),
            session_id: caller.session.into(),
            platform: user.platform,
            email: user.email,
            name: user.name,
        })?)
    }

    /// Change my password
    ///
    /// Ends every other session of yours. A wrong `current` counts as a failed sign-in. Who has no password yet gets one
    /// by `auth_password_forgot`.
    #[oai(
        path = "/password",
        method = "post",
        operation_id = "auth_password_change"
    )]
    async fn change_password(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::BeSignedIn>,
        body: StrictJson<PasswordChange>,
    ) -> Result<NoContent, FailsWith<(UserGone, SignInLocked)>> {
        let PasswordChange { current, new } = body.value;
        let before = users::find(&services.db, caller.user).await?;
        let mut checks = Checks::default();
        passwords::check_new(&mut checks, "new", &new, &before.email);
        checks.require(new != current, "new", || {
            "expected another than the current one".to_owned()
        });
        checks.finish()?;
        let turn = services.passwords.turn().await?;
        let now = services.clock.now();
        let attempt =
            Attempt::begin(&services.db, &services.settings.auth, &before.email, now).await?;
        let checked = turn.check(current, before.password_hash.clone()).await?;
        if !checked.fits {
            let failed = Action::SignInFailed;
            audit::record_by(&services.db, &caller.by, None, failed, before.id, now).await?;
            if attempt.locks() {
                let locked = Action::SignInLocked;
                audit::record_by(&services.db, &caller.by, None, locked, before.id, now).await?;
            }
            return Err(ApiError::field("current", "this is not your password").into());
        }
        let hash = services.passwords.turn().await?.hash(new).await?;
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let changed = user::Entity::update_many()
            .col_expr(user::Column::PasswordHash, Expr::value(hash))
            .col_expr(user::Column::UpdatedAt, Expr::value(now))
            .filter(user::Column::Id.eq(before.id))
            .filter(user::Column::PasswordHash.eq(before.password_hash))
            .exec(&tx)
            .await?;
        if changed.rows_affected == 0 {
            return Err(ApiError::field("current", "this is not your password any more").into());
        }
        attempt.succeed(&tx).await?;
        let why = SessionEnd::PasswordChanged;
        sessions::end_all(&tx, before.id, Some(caller.session), why, now).await?;
        mailed::revoke(&tx, before.id, TokenPurpose::ResetPassword, now).await?;
        let action = Action::PasswordChanged;
        audit::record_by(&tx, &caller.by, None, action, before.id, now).await?;
        tx.commit().await?;
        Ok(NoContent)
    }
}
