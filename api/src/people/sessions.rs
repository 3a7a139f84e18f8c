//! Sessions: each begins with a sign-in and is a family of refresh tokens, of which one at a time is good. A refresh token
//! that comes a second time tells that somebody has a copy, and ends the family (RFC 9700, section 4.14.2).

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    db::Transaction,
    entities::{refresh_token, session, user},
    ids::{SessionId, TokenId, UserId},
    people::{SessionEnd, SignInMethod},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, sea_query::Expr,
};
use serde::Serialize;

use super::{access_token::Presented, tokens::NewToken};
use crate::{
    Services,
    audit::{self, Action, By},
    auth::Actor,
    http::{ApiError, Code, client::Client, request_id::RequestId},
};

/// What every refresh token begins with.
pub(crate) const REFRESH_PREFIX: &str = "rpr_";

/// Somebody who has shown who they are.
#[derive(Debug)]
pub(crate) struct SignIn<'a> {
    /// Who.
    pub(crate) user: &'a user::Model,
    /// How they showed it.
    pub(crate) method: SignInMethod,
    /// From where.
    pub(crate) client: &'a Client,
    /// In which request.
    pub(crate) request_id: &'a RequestId,
}

/// The tokens of a session.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub(crate) struct Tokens {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// Always `Bearer`.
    token_type: String,
    /// For how many seconds the access token is good.
    expires_in: i64,
    /// Exchange it for the next pair before the access token expires. It is good for one exchange.
    refresh_token: String,
    /// In how many seconds the session ends, however often the refresh token is exchanged.
    session_expires_in: i64,
}

impl Example for Tokens {
    fn example() -> Self {
        Self {
            access_token: "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1c3JfMSJ9.c2lnbmF0dXJl".to_owned(),
            token_type: "Bearer".to_owned(),
            expires_in: 900,
            refresh_token: format!("{REFRESH_PREFIX}7YtK3hJp0sVd9wQx1zRb5nMf2cGa8eLu4iTo6yWqXvE"),
            session_expires_in: 2_592_000,
        }
    }
}

/// Begins a session: writes it with its first refresh token and the audit log's entry, and returns the tokens, which are
/// stored nowhere.
///
/// # Errors
/// 403 when the user is disabled, or has to verify their address first; and when the database fails.
pub(crate) async fn begin(
    tx: &Transaction,
    services: &Services,
    sign_in: SignIn<'_>,
    now: Timestamp,
) -> Result<Tokens, ApiError> {
    let SignIn {
        user,
        method,
        client,
        request_id,
    } = sign_in;
    may_sign_in(services, user)?;
    let row = session::Model {
        id: SessionId::generate(now),
        user_id: user.id,
        method,
        client_address: client.address.map(|address| address.to_string()),
        user_agent: client.user_agent.clone(),
        created_at: now,
        expires_at: now + services.settings.auth.refresh_token,
        ended_at: None,
        ended_reason: None,
    };
    session::Entity::insert(row.clone().into_active_model())
        .exec_without_returning(tx)
        .await?;
    user::Entity::update_many()
        .col_expr(user::Column::LastSignedInAt, Expr::value(now))
        .filter(user::Column::Id.eq(user.id))
        .exec(tx)
        .await?;
    let by = By::new(Actor::User(user.id), request_id);
    audit::record_by(tx, &by, None, Action::SignedIn, row.id, now).await?;
    hand_out(tx, services, &row, now).await
}

/// Whether this user may begin a session at all.
///
/// # Errors
/// 403 when they are disabled, or have to verify their address first.
pub(crate) fn may_sign_in(services: &Services, user: &user::Model) -> Result<(), ApiError> {
    if user.disabled_at.is_some() {
        return Err(ApiError::new(
            Code::UserDisabled,
            "this user may not sign in any more; ask an administrator",
        ));
    }
    if services.settings.auth.email_verification_required && user.email_verified_at.is_none() {
        return Err(ApiError::new(
            Code::EmailNotVerified,
            "follow the link in the verification mail first; `/v1/auth/verify-email/resend` sends another",
        ));
    }
    Ok(())
}

/// The next pair of tokens of a session.
///
/// # Errors
/// When the database fails.
pub(crate) async fn hand_out(
    tx: &impl ConnectionTrait,
    services: &Services,
    session: &session::Model,
    now: Timestamp,
) -> Result<Tokens, ApiError> {
    let refresh = NewToken::generate(REFRESH_PREFIX);
    let row = refresh_token::Model {
        id: TokenId::generate(now),
        session_id: session.id,
        token_hash: refresh.hash,
        created_at: now,
        used_at: None,
    };
    refresh_token::Entity::insert(row.into_active_model())
        .exec_without_returning(tx)
        .await?;
    let of = Presented {
        user: session.user_id,
        session: session.id,
    };
    let tokens = &services.access_tokens;
    let access_token = tokens
        .issue(of, session.expires_at, now)
        .map_err(|error| ApiError::caused(Code::Internal, error))?;
    let left = (session.expires_at - now).num_seconds();
    let lifetime = i64::try_from(tokens.lifetime().as_secs()).unwrap_or(left);
    Ok(Tokens {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: lifetime.min(left),
        refresh_token: refresh.text,
        session_expires_in: left,
    })
}

/// Ends one session; one that has ended already is left as it is. Says whether it went on until now.
///
/// # Errors
/// When the database fails.
pub(crate) async fn end(
    tx: &impl ConnectionTrait,
    session: SessionId,
    why: SessionEnd,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let ended = ending(why, now)
        .filter(session::Column::Id.eq(session))
        .exec(tx)
        .await?;
    Ok(ended.rows_affected > 0)
}

/// Ends every session of a user but `except`.
///
/// # Errors
/// When the database fails.
pub(crate) async fn end_all(
    tx: &impl ConnectionTrait,
    user: UserId,
    except: Option<SessionId>,
    why: SessionEnd,
    now: Timestamp,
) -> Result<(), DbErr> {
    let mut ending = ending(why, now).filter(session::Column::UserId.eq(user));
    if let Some(kept) = except {
        ending = ending.filter(session::Column::Id.ne(kept));
    }
    ending.exec(tx).await.map(|_| ())
}

fn ending(why: SessionEnd, now: Timestamp) -> sea_orm::UpdateMany<session::Entity> {
    session::Entity::update_many()
        .col_expr(session::Column::EndedAt, Expr::value(now))
        .col_expr(session::Column::EndedReason, Expr::value(why.as_str()))
        .filter(session::Column::EndedAt.is_null())
}
