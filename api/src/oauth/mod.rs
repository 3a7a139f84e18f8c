//! Signing in through other providers: GitHub, Google, any issuer of OpenID Connect. The authorization code flow of OAuth
//! 2.0 (RFC 6749) as RFC 9700 wants it: PKCE, a `state` that is good once and only in the browser that began, exact
//! redirect addresses, one for each provider. Nothing that a provider gives out is kept.

mod answer;
mod ask;
mod client;
mod cookie;
mod github;
mod oidc;
mod provider;
mod providers;
mod return_to;
mod state;
mod user;

use poem::{Request, web::Data};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    types::Example,
};
use relaypost_shared::{db::begin_write, entities::user as users, people::SignInMethod};
use sea_orm::EntityTrait as _;
use serde::Deserialize;

use self::{
    answer::{Back, Exchanged, ToProvider},
    cookie::{Cookie, Site},
    oidc::Callback,
    provider::Provider,
    state::{Secrets, Tickets},
    user::Door,
};
use crate::{
    Services,
    auth::Visitor,
    http::{
        ApiError, Code, StrictJson, Text, client::Client, document::Tag, request_id::RequestId,
    },
    people::sessions::{self, SignIn},
};

pub(crate) use providers::Providers;

/// Ties a sign-in to the browser that began it: from elsewhere the callback leads nowhere, so that nobody is signed in as
/// somebody else by an address that they are sent (RFC 6749, section 10.12).
const BEGUN: Cookie = Cookie {
    name: "relaypost_oauth",
    path: "/auth/oauth",
    same_site: "Lax",
    max_age: state::SIGN_IN.num_seconds(),
};

/// The same for the code of a redirect.
const CODE: Cookie = Cookie {
    name: "relaypost_oauth_code",
    path: "/v1/auth/oauth",
    same_site: "Strict",
    max_age: state::EXCHANGE.num_seconds(),
};

/// What a provider sends the browser back with.
#[derive(Debug)]
struct Answered {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
}

/// What is exchanged for tokens.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
struct NewExchange {
    /// The `code` with which the browser came back to `return_to`. It is good once, for 60 seconds, in that browser.
    #[oai(validator(min_length = 1, max_length = 200))]
    code: String,
}

impl Example for NewExchange {
    fn example() -> Self {
        Self {
            code: "7YtK3hJp0sVd9wQx1zRb5nMf2cGa8eLu4iTo6yWqXvE".to_owned(),
        }
    }
}

/// The operations of signing in through a provider.
#[derive(Debug)]
pub(crate) struct OauthApi;

#[OpenApi(tag = "Tag::Oauth")]
impl OauthApi {
    /// Sign in through a provider
    ///
    /// For browsers: it leads to the provider, which leads back to `oauth_callback`. A provider that is not configured is
    /// 404.
    #[oai(
        path = "/auth/oauth/:provider/start",
        method = "get",
        operation_id = "oauth_start"
    )]
    async fn start(
        &self,
        Data(services): Data<&Services>,
        _visitor: Visitor,
        /// The provider.
        provider: Path<Text<Provider>>,
        /// The path of this service to return to, such as `/app`. It gets a `code` to exchange with `oauth_exchange`. Without it
        /// the answer of `oauth_callback` is the tokens.
        return_to: Query<Option<String>>,
    ) -> Result<ToProvider, ApiError> {
        start(services, provider.0.0, return_to.0).await
    }

    /// Come back from a provider
    ///
    /// For browsers, which a provider sends here. Good once, within ten minutes, in the browser that began. Parameters that
    /// providers add of their own are ignored.
    #[oai(
        path = "/auth/oauth/:provider/callback",
        method = "get",
        operation_id = "oauth_callback"
    )]
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a parameter of the document"
    )]
    async fn callback(
        &self,
        Data(services): Data<&Services>,
        request: &Request,
        /// The provider.
        provider: Path<Text<Provider>>,
        /// What the sign-in was begun with.
        state: Query<Option<String>>,
        /// The provider's authorization code.
        code: Query<Option<String>>,
        /// Why the provider gives none.
        error: Query<Option<String>>,
        /// Which issuer answers (RFC 9207).
        iss: Query<Option<String>>,
    ) -> Result<Back, ApiError> {
        let answered = Answered {
            state: state.0,
            code: code.0,
            error: error.0,
            issuer: iss.0,
        };
        // Not by the extractor that other operations have: what a client does not know here, it ignores (RFC 6749,
        // section 4.1.2).
        let visitor = Visitor {
            client: Client::of(request),
            request_id: RequestId::current(request)?,
        };
        let browser = BEGUN.of(request);
        callback(services, visitor, provider.0.0, browser, answered).await
    }

    /// Exchange a code for tokens
    ///
    /// For the page that `oauth_callback` leads to when the sign-in began with `return_to`.
    #[oai(
        path = "/v1/auth/oauth/token",
        method = "post",
        operation_id = "oauth_exchange"
    )]
    async fn exchange(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        request: &Request,
        body: StrictJson<NewExchange>,
    ) -> Result<Exchanged, ApiError> {
        exchange(services, visitor, &body.value.code, CODE.of(request)).await
    }
}

async fn start(
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

async fn callback(
    services: &Services,
    visitor: Visitor,
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

    // Asking may have taken seconds.
    let now = services.clock.now();
    let tx = begin_write(&services.db).await?;
    let door = Door {
        tx: &tx,
        create: services.settings.oauth.create_users,
        request_id: &visitor.request_id,
        now,
    };
    let user = door.user(&account).await?;
    let return_to = begun
        .return_to
        .and_then(|path| return_to::address(&site.url, &path));
    let Some(page) = return_to else {
        let sign_in = sign_in(&user, provider.method(), &visitor);
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

async fn exchange(
    services: &Services,
    visitor: Visitor,
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
    let tokens = sessions::begin(&tx, services, sign_in(&user, method, &visitor), now).await?;
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
