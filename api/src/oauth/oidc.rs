//! Issuers of OpenID Connect: the authorization code flow of OpenID Connect Core 1.0 (section 3.1) with PKCE (RFC 7636),
//! and what an issuer tells about itself (OpenID Connect Discovery 1.0).

use std::sync::{Arc, PoisonError, RwLock};

use chrono::TimeDelta;
use openidconnect::{
    AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce, OAuth2TokenResponse as _,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, SignatureVerificationError,
    TokenResponse as _,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreIdToken, CoreIdTokenClaims,
        CoreJwsSigningAlgorithm, CoreProviderMetadata,
    },
};
use relaypost_shared::{clock::Timestamp, settings::OidcProvider};

use super::{
    ask,
    client::ProviderClient,
    provider::{Account, ProviderError, VerifiedAddress, invalid},
    state::Secrets,
};

/// How long what an issuer tells about itself is believed.
const FRESH: TimeDelta = TimeDelta::hours(1);

/// What may sign an ID token. `none` signs nothing, and with HS256 whoever knows the client secret could sign.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

pub(super) type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// One issuer, and what it told about itself lately.
#[derive(Debug)]
pub(super) struct Issuer {
    settings: OidcProvider,
    /// Each process asks for itself; what they know may differ for an hour, and each is right.
    known: RwLock<Option<Known>>,
}

#[derive(Clone, Debug)]
struct Known {
    metadata: Arc<CoreProviderMetadata>,
    at: Timestamp,
}

/// What the callback brings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Callback<'a> {
    /// Our address that the provider was told to send the browser to.
    pub(super) redirect_uri: &'a str,
    /// The authorization code.
    pub(super) code: &'a str,
    /// Which issuer says so (RFC 9207), if it says.
    pub(super) issuer: Option<&'a str>,
}

impl Issuer {
    pub(super) fn new(settings: OidcProvider) -> Self {
        Self {
            settings,
            known: RwLock::new(None),
        }
    }

    /// The address that a browser is sent to.
    ///
    /// # Errors
    /// When the issuer does not tell where that is.
    pub(super) async fn authorization_url(
        &self,
        http: &ProviderClient,
        redirect_uri: &str,
        state: &str,
        secrets: &Secrets,
        now: Timestamp,
    ) -> Result<String, ProviderError> {
        let metadata = self.metadata(http, now).await?;
        let client = self.client(&metadata, redirect_uri)?;
        let verifier = PkceCodeVerifier::new(secrets.verifier.clone());
        let (state, nonce) = (state.to_owned(), secrets.nonce.clone());
        let (url, _, _) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scope(Scope::new("email".to_owned()))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .url();
        Ok(url.into())
    }

    /// Whom the issuer says that somebody is.
    ///
    /// # Errors
    /// When it is away, refuses the code, answers with an ID token that does not hold, or has not verified the address.
    pub(super) async fn account(
        &self,
        http: &ProviderClient,
        callback: Callback<'_>,
        secrets: Secrets,
        now: Timestamp,
    ) -> Result<Account, ProviderError> {
        let own = self.settings.issuer.as_str();
        if callback.issuer.is_some_and(|issuer| issuer != own) {
            return Err(invalid("the callback is from another issuer"));
        }
        let metadata = self.metadata(http, now).await?;
        let client = self.client(&metadata, callback.redirect_uri)?;
        let tokens = ask::tokens(
            http.clone(),
            client.clone(),
            AuthorizationCode::new(callback.code.to_owned()),
            PkceCodeVerifier::new(secrets.verifier),
        )
        .await?;
        let id_token = tokens
            .id_token()
            .ok_or_else(|| invalid("there is no ID token"))?;
        let nonce = Nonce::new(secrets.nonce);
        let claims = match self.claims(&client, id_token, &nonce, now) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                // It signs with a key that is newer than what we know of it.
                let metadata = self.discover(http, now).await?;
                let client = self.client(&metadata, callback.redirect_uri)?;
                self.claims(&client, id_token, &nonce, now)
            }
            checked => checked,
        };
        let claims = claims.map_err(|error| invalid(error.to_string()))?;
        let (email, verified) = match claims.email() {
            Some(email) => (email.to_string(), claims.email_verified()),
            // OpenID Connect Core 1.0, section 5.4: in this flow the address may come from there only.
            None => {
                let (token, subject) = (tokens.access_token(), claims.subject());
                ask::user_info(http.clone(), client, token.clone(), subject.clone()).await?
            }
        };
        if verified != Some(true) {
            return Err(ProviderError::Unverified);
        }
        Ok(Account {
            issuer: own.to_owned(),
            subject: claims.subject().to_string(),
            address: VerifiedAddress::new(&email).ok_or(ProviderError::Unverified)?,
        })
    }

    /// The claims of an ID token whose signature, issuer, audience, times and nonce hold (section 3.1.3.7).
    fn claims<'a>(
        &self,
        client: &Client,
        id_token: &'a CoreIdToken,
        nonce: &Nonce,
        now: Timestamp,
    ) -> Result<&'a CoreIdTokenClaims, ClaimsVerificationError> {
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || now);
        let claims = id_token.claims(&verifier, nonce)?;
        let party = claims.authorized_party().map(|party| party.as_str());
        if party.is_some_and(|party| party != self.settings.client.id) {
            let words = "it was made for another client".to_owned();
            return Err(ClaimsVerificationError::InvalidAudience(words));
        }
        Ok(claims)
    }

    fn client(
        &self,
        metadata: &CoreProviderMetadata,
        redirect_uri: &str,
    ) -> Result<Client, ProviderError> {
        let settings = &self.settings.client;
        let redirect_uri = RedirectUrl::new(redirect_uri.to_owned())
            .map_err(|_| invalid("PUBLIC_URL makes no redirect URI"))?;
        let methods = metadata.token_endpoint_auth_methods_supported();
        let in_body = methods.is_some_and(|methods| {
            !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
                && methods.contains(&CoreClientAuthMethod::ClientSecretPost)
        });
        let client = CoreClient::from_provider_metadata(
            metadata.clone(),
            ClientId::new(settings.id.clone()),
            Some(ClientSecret::new(settings.secret.expose().to_owned())),
        );
        Ok(client
            .set_redirect_uri(redirect_uri)
            .set_auth_type(if in_body {
                AuthType::RequestBody
            } else {
                AuthType::BasicAuth
            }))
    }

    async fn metadata(
        &self,
        http: &ProviderClient,
        now: Timestamp,
    ) -> Result<Arc<CoreProviderMetadata>, ProviderError> {
        let known = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match known.filter(|known| (now - known.at).abs() < FRESH) {
            Some(known) => Ok(known.metadata),
            None => self.discover(http, now).await,
        }
    }

    /// Asks the issuer about itself and for its keys.
    async fn discover(
        &self,
        http: &ProviderClient,
        now: Timestamp,
    ) -> Result<Arc<CoreProviderMetadata>, ProviderError> {
        let issuer = &self.settings.issuer;
        let url = IssuerUrl::new(issuer.as_str().to_owned())
            .map_err(|_| invalid("the issuer is no address"))?;
        let metadata = ask::metadata(http.clone(), url).await?;
        if issuer.is_https() && !is_encrypted(&metadata) {
            return Err(invalid("one of its endpoints is not https"));
        }
        let metadata = Arc::new(metadata);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Known {
            metadata: metadata.clone(),
            at: now,
        });
        Ok(metadata)
    }
}

/// Whether tokens, secrets and keys travel encrypted.
fn is_encrypted(metadata: &CoreProviderMetadata) -> bool {
    let https = |url: &openidconnect::url::Url| url.scheme() == "https";
    https(metadata.authorization_endpoint().url())
        && https(metadata.jwks_uri().url())
        && metadata.token_endpoint().is_none_or(|url| https(url.url()))
        && metadata
            .userinfo_endpoint()
            .is_none_or(|url| https(url.url()))
}
