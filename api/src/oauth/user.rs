//! Which user an account at a provider stands for.

use relaypost_shared::{
    clock::Timestamp,
    db::Transaction,
    entities::{identity, user},
    ids::UserId,
};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QuerySelect as _,
    sea_query::{Expr, OnConflict},
};

use super::provider::{Account, VerifiedAddress};
use crate::{
    audit::{self, Action, By},
    auth::Actor,
    http::{ApiError, Code, request_id::RequestId},
};

/// The transaction in which somebody is let in.
#[derive(Debug)]
pub(super) struct Door<'a> {
    pub(super) tx: &'a Transaction,
    /// Whether somebody whom no user stands for becomes one.
    pub(super) create: bool,
    pub(super) request_id: &'a RequestId,
    pub(super) now: Timestamp,
}

impl Door<'_> {
    /// The user that this account was linked with before, or the one with its address, which links them.
    ///
    /// # Errors
    /// 403 when there is none, or when the account may not be linked with that user; and when the database fails.
    pub(super) async fn user(&self, account: &Account) -> Result<user::Model, ApiError> {
        let known = identity::Entity::find_by_id((account.issuer.clone(), account.subject.clone()))
            .one(self.tx)
            .await?;
        if let Some(identity) = known {
            return self.linked(identity).await;
        }
        let user = match self.with_address(&account.address).await? {
            Some(user) => user,
            None if self.create => self.create(&account.address).await?,
            None => {
                return Err(ApiError::new(
                    Code::NoSuchUser,
                    "no user has the address that the provider has verified; an administrator creates one",
                ));
            }
        };
        // Who signed up with somebody else's address and a password of their own waits for its owner to come through a
        // provider: were the two linked, both would be in (the "pre-hijacking" of Sudhodanan and Paverd, 2022). With a
        // verified address the password is the owner's; without a password nobody waits.
        if user.password_hash.is_some() && user.email_verified_at.is_none() {
            return Err(ApiError::new(
                Code::AddressClaimed,
                "a user with this address has a password and has never shown that the address is theirs; reset the \
                 password by mail first, which shows it",
            ));
        }
        if user.disabled_at.is_some() {
            // Nothing is linked with who may not come in.
            return Ok(user);
        }
        self.link(account, &user).await?;
        self.verified(user).await
    }

    async fn linked(&self, identity: identity::Model) -> Result<user::Model, ApiError> {
        identity::Entity::update_many()
            .col_expr(identity::Column::LastUsedAt, Expr::value(self.now))
            .filter(identity::Column::Issuer.eq(&identity.issuer))
            .filter(identity::Column::Subject.eq(&identity.subject))
            .exec(self.tx)
            .await?;
        let user = user::Entity::find_by_id(identity.user_id)
            .lock_exclusive()
            .one(self.tx)
            .await?;
        // A user who is deleted takes their identities along; this one went in between.
        user.ok_or_else(|| ApiError::new(Code::NoSuchUser, "this user was deleted just now"))
    }

    /// Locked, so that nobody disables them or sets a password in between.
    async fn with_address(&self, address: &VerifiedAddress) -> Result<Option<user::Model>, DbErr> {
        user::Entity::find()
            .filter(user::Column::Email.eq(address.as_str()))
            .lock_exclusive()
            .one(self.tx)
            .await
    }

    async fn create(&self, address: &VerifiedAddress) -> Result<user::Model, ApiError> {
        let new = user::Model {
            id: UserId::generate(self.now),
            email: address.as_str().to_owned(),
            name: None,
            password_hash: None,
            platform: false,
            email_verified_at: Some(self.now),
            disabled_at: None,
            last_signed_in_at: None,
            created_at: self.now,
            updated_at: self.now,
        };
        let inserted = user::Entity::insert(new.clone().into_active_model())
            .on_conflict(
                OnConflict::column(user::Column::Email)
                    .do_nothing()
                    .to_owned(),
            )
            .exec_without_returning(self.tx)
            .await?;
        if inserted == 0 {
            // Somebody else created them in between, and they are to be judged like any other.
            let user = self.with_address(address).await?;
            return user.ok_or_else(|| ApiError::new(Code::Unavailable, "try again"));
        }
        self.note(new.id, Action::UserCreated, new.id).await?;
        Ok(new)
    }

    async fn link(&self, account: &Account, user: &user::Model) -> Result<(), ApiError> {
        let new = identity::Model {
            issuer: account.issuer.clone(),
            subject: account.subject.clone(),
            user_id: user.id,
            email: account.address.as_str().to_owned(),
            created_at: self.now,
            last_used_at: self.now,
        };
        let key = [identity::Column::Issuer, identity::Column::Subject];
        let inserted = identity::Entity::insert(new.into_active_model())
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
            .exec_without_returning(self.tx)
            .await?;
        if inserted == 0 {
            // The same account signed in twice at once, and the other was first.
            return Ok(());
        }
        self.note(user.id, Action::IdentityLinked, account).await?;
        Ok(())
    }

    /// The provider has verified the address of this user, if nobody had.
    async fn verified(&self, user: user::Model) -> Result<user::Model, ApiError> {
        if user.email_verified_at.is_some() {
            return Ok(user);
        }
        user::Entity::update_many()
            .col_expr(user::Column::EmailVerifiedAt, Expr::value(self.now))
            .col_expr(user::Column::UpdatedAt, Expr::value(self.now))
            .filter(user::Column::Id.eq(user.id))
            .exec(self.tx)
            .await?;
        self.note(user.id, Action::EmailVerified, user.id).await?;
        Ok(user::Model {
            email_verified_at: Some(self.now),
            ..user
        })
    }

    async fn note(
        &self,
        user: UserId,
        action: Action,
        target: impl std::fmt::Display,
    ) -> Result<(), DbErr> {
        let by = By::new(Actor::User(user), self.request_id);
        audit::record_by(self.tx, &by, None, action, target, self.now).await
    }
}
