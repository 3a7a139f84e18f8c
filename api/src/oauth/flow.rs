//! What happens between a click on "sign in with …" and a session.

use poem::http::StatusCode;
use relaypost_shared::{db::begin_write, entities::user as users, people::SignInMethod};
use sea_orm::EntityTrait as _;

use super::{
    answer::{Back, Exchanged, ToProvider},
    cookie::{Cookie, Site},
    oidc::Callback,
    provider::{Account, Provider},
    return_to,
    state::{self, Secrets, Tickets},
    user::Door,
};
use crate::{
    Services,
    audit::{self, Action},
    auth::Visitor,
    http::{ApiError, Code},
    people::sessions::{self, SignIn},
};

/// Ties a sign-in to the browser that began it: from elsewhere the callback leads nowhere, so that nobody is signed in as
/// somebody else by an address that they are sent (RFC 6749, section 10.12).
pub(super) const BEGUN: Cookie = Cookie {
    name: "relaypost_oauth",
    path: "/auth/oauth",
    same_site: "Lax",
    max_age: state::SIGN_IN.num_seconds(),
};

/// The same for the code of a redirect.
pub(super) const CODE: Cookie = Cookie {
    name: "relaypost_oauth_code",
    path: "/v1/auth/oauth",
    same_site: "Strict",
    max_age: state::EXCHANGE.num_seconds(),
};

/// What a provider sends the browser back with.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) state: Option<String>,
    pub(super) code: Option<String>,
    pub(super) error: Option<String>,
    /// Which issuer answers (RFC 9207).
    pub(super) issuer: Option<String>,
}

/// Sends a browser to a provider, and remembers that it did.
///
/// # Errors
/// 404 when the provider is not configured, 400 for a `return_to` that leads elsewhere, 502 and 503 when the provider does
/// not tell where people sign in.
pub(super) async fn start(
    services: &Services,
    provider: Provider,
    return_to: Option<String>,
) -> Result<ToProvider, ApiError> {
    let (providers, site) = (&services.oauth, Site::of(&services.settings));
    providers.require(provider)?;
    if let Some(path) = &return_to
        && return_to::address(&site.url, path).is_none()
    {
        return Err(ApiError::new(
            Code::InvalidParameter,
            "return_to: expected a path of this service that starts with one slash, without a parameter `code`",
        ));
    }
    let now = services.clock.now();
    let (tickets, secrets) = (Tickets::generate(), Secrets::generate());
    let redirect_uri = format!("{}{}", site.url, provider.callback());
    let url = providers
        .authorization_url(provider, &redirect_uri, &tickets.text, &secrets, now)
        .await?;
    let new = state::New {
        method: provider.method(),
        secrets: &secrets,
        return_to,
        user: None,
        lasts: state::SIGN_IN,
    };
    state::remember(&services.db, &services.settings.keyring, &tickets, new, now).await?;
    ToProvider::to(&url, BEGUN.set(&tickets.browser, &site))
}

/// Ends a sign-in that a provider has sent back.
///
/// # Errors
/// 400 when it is over or another browser's, 403 when the provider or we refuse, 502 and 503 when the provider fails.
pub(super) async fn callback(
    services: &Services,
    visitor: &Visitor,
    provider: Provider,
    browser: Option<&str>,
    answered: Answered,
) -> Result<Back, ApiError> {
    let (providers, site) = (&services.oauth, Site::of(&services.settings));
    providers.require(provider)?;
    let now = services.clock.now();
    let Some(ticket) = &answered.state else {
        return Err(state::over());
    };
    let taken = state::take(&services.db, ticket, browser, now).await?;
    let begun = taken
        .filter(|row| row.provider == provider.method() && row.user_id.is_none())
        .ok_or_else(state::over)?;
    let redirect_uri = format!("{}{}", site.url, provider.callback());
    let callback = Callback {
        redirect_uri: &redirect_uri,
        code: answered.code()?,
        issuer: answered.issuer.as_deref(),
    };
    let secrets = state::open(&services.settings.keyring, &begun)?;
    let account = providers.account(provider, callback, secrets, now).await?;

    let entered = enter(services, visitor, provider, &account, begun.return_to).await;
    if entered
        .as_ref()
        .is_err_and(|error| error.code.status() == StatusCode::FORBIDDEN)
    {
        let (by, target) = (visitor.by(), account.to_string());
        let now = services.clock.now();
        audit::record_by(&services.db, &by, None, Action::SignInFailed, target, now).await?;
    }
    entered
}

/// Lets in whoever has this account: with tokens at once, or with a code for the page that they return to.
async fn enter(
    services: &Services,
    visitor: &Visitor,
    provider: Provider,
    account: &Account,
    return_to: Option<String>,
) -> Result<Back, ApiError> {
    let (site, now) = (Site::of(&services.settings), services.clock.now());
    let tx = begin_write(&services.db).await?;
    let door = Door {
        tx: &tx,
        create: services.settings.oauth.create_users,
        request_id: &visitor.request_id,
        now,
    };
    let user = door.user(account).await?;
    let page = return_to.and_then(|path| return_to::address(&site.url, &path));
    let Some(page) = page else {
        let sign_in = sign_in(&user, provider.method(), visitor);
        let tokens = sessions::begin(&tx, services, sign_in, now).await?;
        tx.commit().await?;
        return Back::tokens(&tokens, &BEGUN, &site);
    };
    sessions::may_sign_in(services, &user)?;
    let tickets = Tickets::generate();
    let new = state::New {
        method: provider.method(),
        // Nothing is asked of the provider any more; the column is never without something sealed.
        secrets: &Secrets::generate(),
        return_to: None,
        user: Some(user.id),
        lasts: state::EXCHANGE,
    };
    state::remember(&tx, &services.settings.keyring, &tickets, new, now).await?;
    tx.commit().await?;
    let cookies = [BEGUN.remove(&site), CODE.set(&tickets.browser, &site)];
    Back::to_page(&return_to::with_code(page, &tickets.text), cookies)
}

/// Exchanges the code of a redirect for tokens.
///
/// # Errors
/// 400 when it is unknown, used, too old or another browser's; 403 when the user may not sign in any more.
pub(super) async fn exchange(
    services: &Services,
    visitor: &Visitor,
    code: &str,
    browser: Option<&str>,
) -> Result<Exchanged, ApiError> {
    let now = services.clock.now();
    let taken = state::take(&services.db, code, browser, now).await?;
    let signed_in = taken.and_then(|row| Some((row.user_id?, row.provider)));
    let (user, method) = signed_in.ok_or_else(state::over)?;
    let tx = begin_write(&services.db).await?;
    let user = users::Entity::find_by_id(user).one(&tx).await?;
    let user = user.ok_or_else(state::over)?;
    let tokens = sessions::begin(&tx, services, sign_in(&user, method, visitor), now).await?;
    tx.commit().await?;
    Exchanged::tokens(&tokens, &CODE, &Site::of(&services.settings))
}

fn sign_in<'a>(user: &'a users::Model, method: SignInMethod, visitor: &'a Visitor) -> SignIn<'a> {
    SignIn {
        user,
        method,
        client: &visitor.client,
        request_id: &visitor.request_id,
    }
}

impl Answered {
    /// The authorization code, or what the provider says instead (RFC 6749, section 4.1.2.1).
    ///
    /// # Errors
    /// 403 when it refuses, 503 when it cannot at the moment.
    fn code(&self) -> Result<&str, ApiError> {
        if let Some(error) = &self.error {
            // Whoever sends the browser here chooses these words.
            let error: String = error
                .chars()
                .filter(char::is_ascii_graphic)
                .take(80)
                .collect();
            tracing::warn!(error, "the provider refused a sign-in");
        }
        if matches!(
            self.error.as_deref(),
            Some("server_error" | "temporarily_unavailable")
        ) {
            return Err(ApiError::new(
                Code::ProviderUnavailable,
                "the provider cannot sign you in at the moment; begin the sign-in again in a while",
            ));
        }
        match (&self.error, self.code.as_deref()) {
            (None, Some(code)) if !code.is_empty() => Ok(code),
            (Some(error), _) if error == "access_denied" => Err(ApiError::new(
                Code::ProviderRefused,
                "the sign-in was cancelled at the provider",
            )),
            _ => Err(ApiError::new(
                Code::ProviderRefused,
                "the provider refused the sign-in; look at its settings for this service",
            )),
        }
    }
}
