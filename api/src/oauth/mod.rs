//! Signing in through other providers: GitHub, Google, any issuer of OpenID Connect. The authorization code flow of OAuth
//! 2.0 (RFC 6749) as RFC 9700 wants it: PKCE, a `state` that is good once and only in the browser that began, exact
//! redirect addresses, one for each provider. Nothing that a provider gives out is kept.

mod answer;
mod ask;
mod client;
mod cookie;
mod failures;
mod flow;
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
use serde::Deserialize;

use self::{
    answer::{Back, Exchanged, ToProvider},
    failures::{ProviderFails, Refused, SignInOver},
    flow::Answered,
    provider::Provider,
};
use crate::{
    Services,
    auth::Visitor,
    http::{FailsWith, StrictJson, Text, client::Client, document::Tag, request_id::RequestId},
    people::failures::NotLetIn,
};

pub(crate) use providers::Providers;

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

#[OpenApi(tag = "Tag::SignIn")]
impl OauthApi {
    /// Sign in through a provider
    ///
    /// For browsers: it leads to the provider, which leads back to `oauth_callback`. A provider that is not configured is
    /// 404, one whose own description does not hold 502.
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
    ) -> Result<ToProvider, FailsWith<ProviderFails>> {
        Ok(flow::start(services, provider.0.0, return_to.0).await?)
    }

    /// Come back from a provider
    ///
    /// For browsers, which a provider sends here. Good once, within ten minutes, in the browser that began. Parameters that
    /// providers add of their own are ignored. Who is not let in gets 403 with a `code` that says why; an answer of the
    /// provider that does not hold is 502.
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
    ) -> Result<Back, FailsWith<(SignInOver, Refused, ProviderFails)>> {
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
        let browser = flow::BEGUN.of(request);
        let back = flow::callback(services, &visitor, provider.0.0, browser, answered);
        Ok(back.await?)
    }

    /// Exchange a code for tokens
    ///
    /// For the page that `oauth_callback` leads to when the sign-in began with `return_to`. A user who has been disabled
    /// meanwhile gets 403.
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
    ) -> Result<Exchanged, FailsWith<(SignInOver, NotLetIn)>> {
        let browser = flow::CODE.of(request);
        Ok(flow::exchange(services, &visitor, &body.value.code, browser).await?)
    }
}
