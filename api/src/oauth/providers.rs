//! The providers of the settings.

use relaypost_shared::{
    clock::Timestamp,
    settings::{Github, OAuth},
};

use super::{
    client::ProviderClient,
    github,
    oidc::{Callback, Issuer},
    provider::{Account, Provider},
    state::Secrets,
};
use crate::http::ApiError;

/// What signs people in besides passwords.
#[derive(Debug)]
pub(crate) struct Providers {
    http: ProviderClient,
    github: Option<Github>,
    google: Option<Issuer>,
    oidc: Option<Issuer>,
}

enum Configured<'a> {
    Github(&'a Github),
    Issuer(&'a Issuer),
}

impl Providers {
    /// Those that the settings name. None is asked before somebody signs in through it.
    pub(crate) fn new(settings: &OAuth) -> Self {
        let OAuth {
            github,
            google,
            oidc,
            ..
        } = settings.clone();
        Self {
            http: ProviderClient::new(github.is_some() || google.is_some() || oidc.is_some()),
            github,
            google: google.map(Issuer::new),
            oidc: oidc.map(Issuer::new),
        }
    }

    fn configured(&self, provider: Provider) -> Result<Configured<'_>, ApiError> {
        let found = match provider {
            Provider::Github => self.github.as_ref().map(Configured::Github),
            Provider::Google => self.google.as_ref().map(Configured::Issuer),
            Provider::Oidc => self.oidc.as_ref().map(Configured::Issuer),
        };
        found.ok_or_else(|| ApiError::not_found("provider"))
    }

    /// # Errors
    /// 404 when nobody signs in through this provider here.
    pub(super) fn require(&self, provider: Provider) -> Result<(), ApiError> {
        self.configured(provider).map(|_| ())
    }

    /// The address that a browser is sent to.
    ///
    /// # Errors
    /// 404 when the provider is not configured, 502 and 503 when it does not tell where that is.
    pub(super) async fn authorization_url(
        &self,
        provider: Provider,
        redirect_uri: &str,
        state: &str,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<String, ApiError> {
        let url = match self.configured(provider)? {
            Configured::Github(github) => {
                github::authorization_url(github, redirect_uri, state, secrets)?
            }
            Configured::Issuer(issuer) => {
                issuer
                    .authorization_url(&self.http, redirect_uri, state, secrets, now)
                    .await?
            }
        };
        Ok(url)
    }

    /// Whom the provider says that somebody is.
    ///
    /// # Errors
    /// 403 when it says nobody or has not verified the address, 502 and 503 when it says nothing that can be used.
    pub(super) async fn account(
        &self,
        provider: Provider,
        callback: Callback<'_>,
        secrets: Secrets,
        now: Timestamp,
    ) -> Result<Account, ApiError> {
        let account = match self.configured(provider)? {
            Configured::Github(github) => {
                github::account(&self.http, github, callback, secrets).await?
            }
            Configured::Issuer(issuer) => {
                issuer.account(&self.http, callback, secrets, now).await?
            }
        };
        Ok(account)
    }
}
