//! Changes of a user, and what follows from them.

use poem_openapi::types::MaybeUndefined;
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    entities::user,
    ids::UserId,
    people::{SessionEnd, TokenPurpose},
};
use sea_orm::{ActiveModelTrait as _, IntoActiveModel as _, Set};

use super::{body::UserChanges, find};
use crate::{
    Services,
    audit::{self, Action, By},
    http::{ApiError, Checks},
    people::{mailed, passwords, sessions},
};

/// Changes a user. What takes something away from them ends their sessions.
///
/// # Errors
/// 404 when there is no such user, 422 when a change will not do.
pub(super) async fn make(
    services: &Services,
    by: &By,
    id: UserId,
    changes: UserChanges,
) -> Result<user::Model, ApiError> {
    let before = find(&services.db, id).await?;
    let platform = given("platform", changes.platform)?;
    let disabled = given("disabled", changes.disabled)?;
    let hash = match given("password", changes.password)? {
        Some(password) => {
            let mut checks = Checks::default();
            passwords::check_new(&mut checks, "password", &password, &before.email);
            checks.finish()?;
            Some(services.passwords.turn().await?.hash(password).await?)
        }
        None => None,
    };
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let row = super::lock(&tx, id).await?;
    let before = row.ok_or_else(|| ApiError::not_found("user"))?;
    let mut row = before.clone().into_active_model();
    match changes.name {
        MaybeUndefined::Undefined => {}
        MaybeUndefined::Null => row.name = Set(None),
        MaybeUndefined::Value(name) => {
            let mut checks = Checks::default();
            checks.line("name", &name, 1..=200);
            checks.finish()?;
            row.name = Set(Some(name));
        }
    }
    if let Some(platform) = platform {
        row.platform = Set(platform);
    }
    if let Some(disabled) = disabled {
        row.disabled_at = Set(disabled.then(|| before.disabled_at.unwrap_or(now)));
    }
    if hash.is_some() {
        row.password_hash = Set(hash);
    }
    row.updated_at = Set(now);
    let after = row.update(&tx).await?;
    follow(&tx, by, &before, &after, now).await?;
    tx.commit().await?;
    Ok(after)
}

/// Null is for what can be nothing, and anything else is refused.
fn given<T>(field: &str, change: MaybeUndefined<T>) -> Result<Option<T>, ApiError> {
    match change {
        MaybeUndefined::Value(value) => Ok(Some(value)),
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(ApiError::field(field, "expected a value, not null")),
    }
}

async fn follow(
    tx: &Transaction,
    by: &By,
    before: &user::Model,
    after: &user::Model,
    now: Timestamp,
) -> Result<(), ApiError> {
    let (id, mut said) = (after.id, Vec::new());
    if before.password_hash != after.password_hash {
        sessions::end_all(tx, id, None, SessionEnd::PasswordChanged, now).await?;
        mailed::revoke(tx, id, TokenPurpose::ResetPassword, now).await?;
        said.push(Action::PasswordChanged);
    }
    match (before.disabled_at, after.disabled_at) {
        (None, Some(_)) => {
            sessions::end_all(tx, id, None, SessionEnd::UserDisabled, now).await?;
            mailed::revoke(tx, id, TokenPurpose::ResetPassword, now).await?;
            said.push(Action::UserDisabled);
        }
        (Some(_), None) => said.push(Action::UserEnabled),
        _ => {}
    }
    if (before.platform, &before.name) != (after.platform, &after.name) {
        let changed = (Action::UserChanged, format!("platform={}", after.platform));
        audit::record_detail(tx, by, None, changed, id, now).await?;
    }
    for action in said {
        audit::record_by(tx, by, None, action, id, now).await?;
    }
    Ok(())
}
