//! Tokens that go out by mail, through Relaypost's own queue: the token's hash, the mail and its delivery are written in
//! one transaction. The text of the mail is sealed, because who reads it can use the token.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    entities::{Pairs, Texts, one_time_token, user},
    ids::{EmailId, TenantId, TokenId, UserId},
    people::TokenPurpose,
    queue::{Job, Lane},
    secrets::Place,
    settings::Settings,
    store::{
        Delivery, Email, EmailBody,
        accept::{Entry, in_transaction, to_recipient},
    },
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    PaginatorTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{
    tokens::{self, NewToken},
    users,
};
use crate::{
    Services,
    audit::{self, Action, By},
    auth::Actor,
    http::{ApiError, Code, request_id::RequestId},
};

const PREFIX: &str = "rpt_";
/// An address gets at most one mail in this time.
const QUIET: TimeDelta = TimeDelta::seconds(60);

/// Mails somebody a token beside the request, which answers the same way and as fast when there is nobody to mail to. It
/// begins for nobody too, and finds out beside the request.
pub(super) fn send_beside(
    services: &Services,
    user: UserId,
    purpose: TokenPurpose,
    request_id: &RequestId,
) {
    let (services, request_id) = (services.clone(), request_id.clone());
    tokio::spawn(async move {
        if let Err(error) = send(&services, user, purpose, &request_id).await {
            tracing::error!(%error, %request_id, %purpose, "a mail to a user was not written");
        }
    });
}

async fn send(
    services: &Services,
    user: UserId,
    purpose: TokenPurpose,
    request_id: &RequestId,
) -> Result<(), ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    // Locked, so that two requests at once do not make two mails.
    let user = users::lock(&tx, user).await?;
    let Some(user) = user.filter(|user| user.disabled_at.is_none()) else {
        return Ok(());
    };
    let done = purpose == TokenPurpose::VerifyEmail && user.email_verified_at.is_some();
    if done || was_mailed(&tx, user.id, now).await? {
        return Ok(());
    }
    let job = write(&tx, services, &user, purpose, request_id, now).await?;
    if purpose == TokenPurpose::ResetPassword {
        let by = By::new(Actor::Anonymous, request_id);
        audit::record_by(&tx, &by, None, Action::PasswordResetRequested, user.id, now).await?;
    }
    tx.commit().await?;
    services.pusher.push(Lane::Emails, vec![job]);
    Ok(())
}

async fn was_mailed(
    tx: &impl ConnectionTrait,
    user: UserId,
    now: Timestamp,
) -> Result<bool, DbErr> {
    let mails = one_time_token::Entity::find()
        .filter(one_time_token::Column::UserId.eq(user))
        .filter(one_time_token::Column::CreatedAt.gt(now - QUIET))
        .count(tx)
        .await?;
    Ok(mails > 0)
}

/// Writes a token, the mail that brings it, and its delivery, whose job the caller pushes after the commit. Earlier
/// tokens for the same purpose are good no more.
///
/// # Errors
/// When the database fails, or the mail cannot be sealed.
pub(super) async fn write(
    tx: &Transaction,
    services: &Services,
    user: &user::Model,
    purpose: TokenPurpose,
    request_id: &RequestId,
    now: Timestamp,
) -> Result<Job, ApiError> {
    let settings = &services.settings;
    let auth = &settings.auth;
    let lifetime = match purpose {
        TokenPurpose::VerifyEmail => auth.verification_token,
        TokenPurpose::ResetPassword => auth.reset_token,
    };
    let expires_at = now + lifetime;
    let token = replace_token(tx, user.id, purpose, now, expires_at).await?;
    let url = auth.public_url.at("");
    let words = words(purpose, &url, &token, lifetime.as_secs());
    let (mail, body) = mail(settings, user, purpose, words, request_id, now)?;
    let delivery = Delivery {
        // A link that has expired helps nobody.
        expires_at: Some(expires_at),
        ..to_recipient(&mail, user.email.clone())
    };
    let job = Job::of(&delivery);
    let entry = Entry {
        row: mail,
        body,
        deliveries: vec![delivery],
        key: None,
    };
    in_transaction(tx, &[entry], now).await?;
    Ok(job)
}

/// Writes a token, whose text this returns. Earlier ones for the same purpose are good no more.
async fn replace_token(
    tx: &Transaction,
    user: UserId,
    purpose: TokenPurpose,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<String, DbErr> {
    revoke(tx, user, purpose, now).await?;
    let token = NewToken::generate(PREFIX);
    let row = one_time_token::Model {
        id: TokenId::generate(now),
        user_id: user,
        purpose,
        token_hash: token.hash,
        created_at: now,
        expires_at,
        used_at: None,
    };
    one_time_token::Entity::insert(row.into_active_model())
        .exec_without_returning(tx)
        .await?;
    Ok(token.text)
}

/// The mail that brings a token, sealed.
fn mail(
    settings: &Settings,
    user: &user::Model,
    purpose: TokenPurpose,
    (subject, text): (&str, String),
    request_id: &RequestId,
    now: Timestamp,
) -> Result<(Email, EmailBody), ApiError> {
    let id = EmailId::generate(now);
    let sealed = settings
        .keyring
        .seal(Place::email_text(id), text.as_bytes());
    let sealed = sealed.map_err(|error| ApiError::caused(Code::Internal, error))?;
    let body = EmailBody {
        email_id: id,
        sealed: true,
        text: Some(sealed),
        html: None,
    };
    let email = Email {
        id,
        tenant_id: TenantId::OWN,
        sender: settings.emails.default_from.clone(),
        to_recipients: Texts(vec![user.email.clone()]),
        cc_recipients: Texts::default(),
        bcc_recipients: Texts::default(),
        reply_to: None,
        subject: subject.to_owned(),
        headers: Pairs::default(),
        tags: Texts(vec![purpose.to_string()]),
        request_id: request_id.to_string(),
        created_at: now,
        send_at: None,
    };
    Ok((email, body))
}

fn words(purpose: TokenPurpose, url: &str, token: &str, lifetime: u64) -> (&'static str, String) {
    let minutes = lifetime / 60;
    match purpose {
        TokenPurpose::VerifyEmail => (
            "Verify your address",
            format!(
                "Somebody, hopefully you, uses this address to sign in to Relaypost.\r\n\r\nTo show that it is yours, \
                 open this page within {minutes} minutes:\r\n\r\n{url}/auth/verify-email?token={token}\r\n\r\nIf it was \
                 not you, do nothing.\r\n"
            ),
        ),
        TokenPurpose::ResetPassword => (
            "Choose a new password",
            format!(
                "Somebody, hopefully you, wants a new password for Relaypost.\r\n\r\nTo choose it, open this page within \
                 {minutes} minutes:\r\n\r\n{url}/auth/reset-password?token={token}\r\n\r\nIf it was not you, do nothing: \
                 your password stays as it is.\r\n"
            ),
        ),
    }
}

/// Whom a token that is still good was mailed to.
///
/// # Errors
/// 422 at `token` when it is unknown, used or expired.
pub(super) async fn owner(
    db: &impl ConnectionTrait,
    text: &str,
    purpose: TokenPurpose,
    now: Timestamp,
) -> Result<one_time_token::Model, ApiError> {
    one_time_token::Entity::find()
        .filter(one_time_token::Column::TokenHash.eq(tokens::hash(text)))
        .filter(one_time_token::Column::Purpose.eq(purpose))
        .filter(one_time_token::Column::UsedAt.is_null())
        .filter(one_time_token::Column::ExpiresAt.gt(now))
        .one(db)
        .await?
        .ok_or_else(spent)
}

/// Uses a token up.
///
/// # Errors
/// 422 at `token` when another request has used it meanwhile.
pub(super) async fn redeem(
    tx: &impl ConnectionTrait,
    token: &one_time_token::Model,
    now: Timestamp,
) -> Result<(), ApiError> {
    let used = one_time_token::Entity::update_many()
        .col_expr(one_time_token::Column::UsedAt, Expr::value(now))
        .filter(one_time_token::Column::Id.eq(token.id))
        .filter(one_time_token::Column::UsedAt.is_null())
        .exec(tx)
        .await?;
    if used.rows_affected == 0 {
        return Err(spent());
    }
    Ok(())
}

/// Makes a user's tokens for a purpose good for nothing.
///
/// # Errors
/// When the database fails.
pub(super) async fn revoke(
    tx: &impl ConnectionTrait,
    user: UserId,
    purpose: TokenPurpose,
    now: Timestamp,
) -> Result<(), DbErr> {
    one_time_token::Entity::update_many()
        .col_expr(one_time_token::Column::UsedAt, Expr::value(now))
        .filter(one_time_token::Column::UserId.eq(user))
        .filter(one_time_token::Column::Purpose.eq(purpose))
        .filter(one_time_token::Column::UsedAt.is_null())
        .exec(tx)
        .await
        .map(|_| ())
}

fn spent() -> ApiError {
    ApiError::field(
        "token",
        "it is unknown, used or expired: ask for another mail",
    )
}
