//! What the tokens in mails are for: to show that an address is one's own, and to choose a new password.

use poem::web::Data;
use poem_openapi::{Object, OpenApi, types::Example};
use relaypost_shared::{
    db::begin_write,
    entities::user,
    ids::UserId,
    people::{SessionEnd, TokenPurpose},
};
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, ExprTrait as _, QueryFilter as _, sea_query::Expr,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{address, attempts, failures::UserGone, mailed, passwords, sessions, users};
use crate::{
    Services,
    audit::{self, Action, By},
    auth::{Actor, Visitor},
    http::{
        ApiError, Checks, FailsWith, NoContent, Queued, StrictJson, document::Tag,
        request_id::RequestId,
    },
    idempotency::SafeToRepeat,
};

/// A token from a mail.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct MailedToken {
    /// What stands behind `token=` in the link.
    #[oai(validator(max_length = 200))]
    token: String,
}

impl Example for MailedToken {
    fn example() -> Self {
        Self {
            token: "rpt_7YtK3hJp0sVd9wQx1zRb5nMf2cGa8eLu4iTo6yWqXvE".to_owned(),
        }
    }
}

/// A new password, with the token from the mail.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct PasswordReset {
    /// What stands behind `token=` in the link.
    #[oai(validator(max_length = 200))]
    token: String,
    /// The password from now on: 12 to 128 characters.
    #[oai(validator(min_length = 12, max_length = 128))]
    password: String,
}

impl Example for PasswordReset {
    fn example() -> Self {
        Self {
            token: MailedToken::example().token,
            password: "correct horse battery staple".to_owned(),
        }
    }
}

/// Whom a mail is for.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct MailTo {
    /// The address.
    #[oai(validator(max_length = 254))]
    email: String,
}

impl Example for MailTo {
    fn example() -> Self {
        Self {
            email: "ann@example.com".to_owned(),
        }
    }
}

/// A mail may be on its way.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct MailRequested {
    /// The same for every address, so that it does not tell whose there are.
    message: String,
}

impl Example for MailRequested {
    fn example() -> Self {
        Self {
            message: "If somebody with this address can use it, a mail is on its way.".to_owned(),
        }
    }
}

/// The operations with mailed tokens.
#[derive(Debug)]
pub(crate) struct ProofsApi;

#[OpenApi(prefix_path = "/v1/auth", tag = "Tag::SignIn")]
impl ProofsApi {
    /// Verify an address
    ///
    /// With the token of the verification mail, which is good once.
    #[oai(
        path = "/verify-email",
        method = "post",
        operation_id = "auth_verify_email"
    )]
    async fn verify_email(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        body: StrictJson<MailedToken>,
    ) -> Result<NoContent, ApiError> {
        verify(services, &body.value.token, &visitor.request_id).await?;
        Ok(NoContent)
    }

    /// Send the verification mail again
    ///
    /// The answer is the same for every address. An address gets at most one mail in a minute.
    #[oai(
        path = "/verify-email/resend",
        method = "post",
        operation_id = "auth_verify_email_resend"
    )]
    async fn resend(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        _again: SafeToRepeat,
        body: StrictJson<MailTo>,
    ) -> Result<Queued<MailRequested>, ApiError> {
        mail(services, &visitor, &body.value, TokenPurpose::VerifyEmail).await
    }

    /// Ask for a new password
    ///
    /// Mails a link to choose one. The answer is the same for every address. An address gets at most one mail in a minute.
    #[oai(
        path = "/password/forgot",
        method = "post",
        operation_id = "auth_password_forgot"
    )]
    async fn forgot(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        _again: SafeToRepeat,
        body: StrictJson<MailTo>,
    ) -> Result<Queued<MailRequested>, ApiError> {
        mail(services, &visitor, &body.value, TokenPurpose::ResetPassword).await
    }

    /// Choose a new password
    ///
    /// With the token of the mail, which is good once. Ends every session, lifts a lock after failed sign-ins, and shows
    /// that the address is yours.
    #[oai(
        path = "/password/reset",
        method = "post",
        operation_id = "auth_password_reset"
    )]
    async fn reset_password(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        body: StrictJson<PasswordReset>,
    ) -> Result<NoContent, FailsWith<UserGone>> {
        let PasswordReset { token, password } = body.value;
        reset(services, &token, password, &visitor.request_id).await?;
        Ok(NoContent)
    }
}

async fn mail(
    services: &Services,
    visitor: &Visitor,
    to: &MailTo,
    purpose: TokenPurpose,
) -> Result<Queued<MailRequested>, ApiError> {
    let address = address::parse("email", &to.email)?;
    let user = address::user_of(&services.db, &address).await?;
    let nobody = UserId::from_uuid(Uuid::nil());
    mailed::send_beside(
        services,
        user.map_or(nobody, |user| user.id),
        purpose,
        &visitor.request_id,
    );
    Queued::of(&MailRequested::example())
}

/// Uses the token of a verification mail.
///
/// # Errors
/// 422 when it is unknown, used or expired.
pub(super) async fn verify(
    services: &Services,
    text: &str,
    request_id: &RequestId,
) -> Result<(), ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let token = mailed::owner(&tx, text, TokenPurpose::VerifyEmail, now).await?;
    users::lock(&tx, token.user_id).await?;
    mailed::redeem(&tx, &token, now).await?;
    let verified = user::Column::EmailVerifiedAt;
    user::Entity::update_many()
        .col_expr(verified, Expr::col(verified).if_null(now))
        .filter(user::Column::Id.eq(token.user_id))
        .exec(&tx)
        .await?;
    let by = By::new(Actor::User(token.user_id), request_id);
    audit::record_by(&tx, &by, None, Action::EmailVerified, token.user_id, now).await?;
    tx.commit().await?;
    Ok(())
}

/// Uses the token of a password-reset mail.
///
/// # Errors
/// 422 when it is unknown, used or expired, or the password will not do; a password that will not do leaves the token
/// good.
pub(super) async fn reset(
    services: &Services,
    text: &str,
    password: String,
    request_id: &RequestId,
) -> Result<(), ApiError> {
    let (purpose, now) = (TokenPurpose::ResetPassword, services.clock.now());
    // Before the password is hashed, which costs something: who has no token gets no work done.
    let token = mailed::owner(&services.db, text, purpose, now).await?;
    let user = user::Entity::find_by_id(token.user_id)
        .one(&services.db)
        .await?;
    let user = user.ok_or_else(|| ApiError::not_found("user"))?;
    let mut checks = Checks::default();
    passwords::check_new(&mut checks, "password", &password, &user.email);
    checks.finish()?;
    let hash = services.passwords.turn().await?.hash(password).await?;
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    users::lock(&tx, user.id).await?;
    mailed::redeem(&tx, &token, now).await?;
    let verified = user::Column::EmailVerifiedAt;
    user::Entity::update_many()
        .col_expr(user::Column::PasswordHash, Expr::value(hash))
        .col_expr(user::Column::UpdatedAt, Expr::value(now))
        .col_expr(verified, Expr::col(verified).if_null(now))
        .filter(user::Column::Id.eq(user.id))
        .exec(&tx)
        .await?;
    sessions::end_all(&tx, user.id, None, SessionEnd::PasswordChanged, now).await?;
    attempts::forget(&tx, &user.email).await?;
    let by = By::new(Actor::User(user.id), request_id);
    audit::record_by(&tx, &by, None, Action::PasswordReset, user.id, now).await?;
    tx.commit().await?;
    Ok(())
}
