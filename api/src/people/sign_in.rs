//! Signing in and out, and staying signed in.

use poem::web::Data;
use poem_openapi::{Object, OpenApi, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    entities::{refresh_token, session, user},
    ids::UserId,
    people::{SessionEnd, SignInMethod},
};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _, sea_query::Expr,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    address,
    attempts::{self, Attempt},
    failures::{InvalidCredentials, NotLetIn, SessionOver, SignInLocked},
    sessions::{self, REFRESH_PREFIX, SignIn, Tokens},
    tokens, users,
};
use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, Visitor, may},
    http::{ApiError, Code, FailsWith, NoContent, Reply, StrictJson, document::Tag},
    idempotency::SafeToRepeat,
};

/// Who somebody says they are.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct Credentials {
    /// The address, in any spelling of its letters.
    #[oai(validator(max_length = 254))]
    email: String,
    /// The password.
    #[oai(validator(max_length = 1024))]
    password: String,
}

impl Example for Credentials {
    fn example() -> Self {
        Self {
            email: "ann@example.com".to_owned(),
            password: "correct horse battery staple".to_owned(),
        }
    }
}

/// A refresh token to exchange.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct RefreshToken {
    /// The `refresh_token` of the last pair.
    #[oai(validator(max_length = 200))]
    refresh_token: String,
}

impl Example for RefreshToken {
    fn example() -> Self {
        Self {
            refresh_token: format!("{REFRESH_PREFIX}7YtK3hJp0sVd9wQx1zRb5nMf2cGa8eLu4iTo6yWqXvE"),
        }
    }
}

/// The operations with which sessions begin and end.
#[derive(Debug)]
pub(crate) struct SignInApi;

#[OpenApi(prefix_path = "/v1/auth", tag = "Tag::SignIn")]
impl SignInApi {
    /// Sign in
    ///
    /// Answers with an access token, which goes into `Authorization: Bearer …`, and a refresh token. A wrong address and a
    /// wrong password are the same 401 `invalid_credentials`. After too many of them the address is locked for a while:
    /// 429 `sign_in_locked` with `Retry-After`, whatever the password. 403 is `email_not_verified` or `user_disabled`.
    #[oai(path = "/login", method = "post", operation_id = "auth_login")]
    async fn login(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        body: StrictJson<Credentials>,
    ) -> Result<Reply<Tokens>, FailsWith<(InvalidCredentials, SignInLocked, NotLetIn)>> {
        let Credentials { email, password } = body.value;
        let address = address::parse("email", &email)?;
        // The turn comes first: who has to wait for it in vain has not used up an attempt.
        let turn = services.passwords.turn().await?;
        let now = services.clock.now();
        let attempt = Attempt::begin(&services.db, &services.settings.auth, &address, now).await?;
        let near = address::user_near(&services.db, &address).await?;
        let stored = near.as_ref().and_then(|user| user.password_hash.clone());
        let checked = turn.check(password, stored).await?;
        let user = near.filter(|user| user.email == address);

        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let unchanged = unchanged(&tx, user.as_ref()).await?;
        let Some(user) = unchanged.filter(|_| checked.fits) else {
            let target = user.map_or_else(|| attempts::label(&address), |user| user.id.to_string());
            note_failure(&tx, &visitor, &attempt, &target, now).await?;
            tx.commit().await?;
            return Err(ApiError::new(
                Code::InvalidCredentials,
                "there is no user with this address and this password",
            )
            .into());
        };
        attempt.succeed(&tx).await?;
        if let Err(refused) = sessions::may_sign_in(services, &user) {
            tx.commit().await?;
            return Err(refused.into());
        }
        if let Some(hash) = checked.rehashed {
            user::Entity::update_many()
                .col_expr(user::Column::PasswordHash, Expr::value(hash))
                .filter(user::Column::Id.eq(user.id))
                .exec(&tx)
                .await?;
        }
        let sign_in = SignIn {
            user: &user,
            method: SignInMethod::Password,
            client: &visitor.client,
            request_id: &visitor.request_id,
        };
        let tokens = sessions::begin(&tx, services, sign_in, now).await?;
        tx.commit().await?;
        Ok(Reply::of(&tokens)?)
    }

    /// Stay signed in
    ///
    /// Exchanges a refresh token for the next pair. Each is good once: one that comes a second time tells that somebody
    /// has a copy, and ends the session. Then, and when the session is over, this is 401: sign in again.
    #[oai(path = "/refresh", method = "post", operation_id = "auth_refresh")]
    async fn refresh(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        body: StrictJson<RefreshToken>,
    ) -> Result<Reply<Tokens>, FailsWith<SessionOver>> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let exchanged = exchange(&tx, services, &visitor, &body.value.refresh_token, now).await?;
        // A reused token has written something too.
        tx.commit().await?;
        let tokens = exchanged.ok_or_else(|| {
            ApiError::new(
                Code::Unauthorized,
                "the refresh token is unknown or used, or its session is over: sign in again",
            )
        })?;
        Ok(Reply::of(&tokens)?)
    }

    /// Sign out
    ///
    /// Ends the session of the access token: neither it nor the refresh token is good any more.
    #[oai(path = "/logout", method = "post", operation_id = "auth_logout")]
    async fn logout(
        &self,
        Data(services): Data<&Services>,
        caller: Authorized<may::BeSignedIn>,
        _again: SafeToRepeat,
    ) -> Result<NoContent, ApiError> {
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        if sessions::end(&tx, caller.session, SessionEnd::SignedOut, now).await? {
            audit::record_by(
                &tx,
                &caller.by,
                None,
                Action::SignedOut,
                caller.session,
                now,
            )
            .await?;
        }
        tx.commit().await?;
        Ok(NoContent)
    }
}

/// The user as they are now, locked, if their password is still the one that was checked. Nobody is looked for like
/// somebody.
async fn unchanged(
    tx: &Transaction,
    checked: Option<&user::Model>,
) -> Result<Option<user::Model>, ApiError> {
    let nobody = UserId::from_uuid(Uuid::nil());
    let user = users::lock(tx, checked.map_or(nobody, |user| user.id)).await?;
    let hash = checked.map(|user| &user.password_hash);
    Ok(user.filter(|user| Some(&user.password_hash) == hash))
}

async fn note_failure(
    tx: &Transaction,
    visitor: &Visitor,
    attempt: &Attempt,
    target: &str,
    now: Timestamp,
) -> Result<(), ApiError> {
    let by = visitor.by();
    audit::record_by(tx, &by, None, Action::SignInFailed, target, now).await?;
    if attempt.locks() {
        audit::record_by(tx, &by, None, Action::SignInLocked, target, now).await?;
    }
    Ok(())
}

async fn exchange(
    tx: &Transaction,
    services: &Services,
    visitor: &Visitor,
    text: &str,
    now: Timestamp,
) -> Result<Option<Tokens>, ApiError> {
    let token = refresh_token::Entity::find()
        .filter(refresh_token::Column::TokenHash.eq(tokens::hash(text)))
        .one(tx)
        .await?;
    let Some(token) = token else { return Ok(None) };
    let Some(session) = session::Entity::find_by_id(token.session_id)
        .one(tx)
        .await?
    else {
        return Ok(None);
    };
    // Before anything else, as everybody does who changes what is a user's: so nobody waits for anybody in a circle.
    let user = users::lock(tx, session.user_id).await?;
    // Who comes second with the same token waits here for who came first.
    let used = refresh_token::Entity::update_many()
        .col_expr(refresh_token::Column::UsedAt, Expr::value(now))
        .filter(refresh_token::Column::Id.eq(token.id))
        .filter(refresh_token::Column::UsedAt.is_null())
        .exec(tx)
        .await?;
    if used.rows_affected == 0 {
        if sessions::end(tx, token.session_id, SessionEnd::TokenReused, now).await? {
            let by = visitor.by();
            audit::record_by(tx, &by, None, Action::TokenReused, token.session_id, now).await?;
        }
        return Ok(None);
    }
    let session = session::Entity::find_by_id(token.session_id)
        .lock_exclusive()
        .one(tx)
        .await?;
    let Some(session) = session.filter(|one| one.ended_at.is_none() && now < one.expires_at) else {
        return Ok(None);
    };
    let of_the_demo = session.method == SignInMethod::Demo && !services.settings.auth.demo_mode;
    if of_the_demo || user.is_none_or(|user| user.disabled_at.is_some()) {
        return Ok(None);
    }
    sessions::hand_out(tx, services, &session, now)
        .await
        .map(Some)
}
