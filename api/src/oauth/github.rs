//! GitHub, which speaks OAuth 2.0 (RFC 6749) with PKCE and has no ID tokens: who somebody is, its API tells.

use openidconnect::{HttpRequest, PkceCodeChallenge, PkceCodeVerifier};
use poem::http::{Method, Request, StatusCode, header};
use relaypost_shared::settings::Github;
use serde::{Deserialize, de::DeserializeOwned};
use url::{Url, form_urlencoded};

use super::{
    client::ProviderClient,
    oidc::Callback,
    provider::{Account, ProviderError, VerifiedAddress, invalid},
    state::Secrets,
};

/// The version of the API whose answers are read here.
const API_VERSION: &str = "2022-11-28";

#[derive(Deserialize)]
struct Tokens {
    access_token: Option<String>,
    /// GitHub answers 200 even when it refuses.
    error: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
}

#[derive(Deserialize)]
struct Address {
    email: String,
    primary: bool,
    verified: bool,
}

/// The address that a browser is sent to.
///
/// # Errors
/// When the setting is no address.
pub(super) fn authorization_url(
    github: &Github,
    redirect_uri: &str,
    state: &str,
    secrets: &Secrets,
) -> Result<String, ProviderError> {
    let verifier = PkceCodeVerifier::new(secrets.verifier.clone());
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
    let query = [
        ("response_type", "code"),
        ("client_id", &github.client.id),
        ("redirect_uri", redirect_uri),
        ("scope", "user:email"),
        ("state", state),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    Url::parse_with_params(&github.url.at("/login/oauth/authorize"), query)
        .map(String::from)
        .map_err(|_| invalid("OAUTH_GITHUB_URL makes no address"))
}

/// Whom GitHub says that somebody is: the account's number, and its primary address if GitHub has verified it.
///
/// # Errors
/// When GitHub is away, refuses the code, answers something else, or has not verified the address.
pub(super) async fn account(
    http: &ProviderClient,
    github: &Github,
    callback: Callback<'_>,
    secrets: Secrets,
) -> Result<Account, ProviderError> {
    let token = exchange(http, github, callback, &secrets).await?;
    let user: User = get(http, github, "/user", &token).await?;
    let addresses: Vec<Address> = get(http, github, "/user/emails?per_page=100", &token).await?;
    let primary = addresses
        .into_iter()
        .find(|address| address.primary && address.verified)
        .and_then(|address| VerifiedAddress::new(&address.email));
    Ok(Account {
        issuer: github.url.at(""),
        subject: user.id.to_string(),
        address: primary.ok_or(ProviderError::Unverified)?,
    })
}

async fn exchange(
    http: &ProviderClient,
    github: &Github,
    callback: Callback<'_>,
    secrets: &Secrets,
) -> Result<String, ProviderError> {
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &github.client.id)
        .append_pair("client_secret", github.client.secret.expose())
        .append_pair("code", callback.code)
        .append_pair("redirect_uri", callback.redirect_uri)
        .append_pair("code_verifier", &secrets.verifier)
        .finish();
    let request = Request::builder()
        .method(Method::POST)
        .uri(github.url.at("/login/oauth/access_token"))
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(form.into_bytes());
    let tokens: Tokens = read(http, request).await?;
    match tokens {
        Tokens {
            error: Some(error), ..
        } if error == "bad_verification_code" => Err(ProviderError::Refused(error)),
        // Such as `incorrect_client_credentials`: the settings are wrong, and the log has to say so.
        Tokens {
            error: Some(error), ..
        } => Err(invalid(error)),
        Tokens { access_token, .. } => access_token.ok_or_else(|| invalid("there is no token")),
    }
}

async fn get<T: DeserializeOwned>(
    http: &ProviderClient,
    github: &Github,
    path: &str,
    token: &str,
) -> Result<T, ProviderError> {
    let request = Request::builder()
        .uri(github.api_url.at(path))
        .header(header::ACCEPT, "application/vnd.github+json")
        .header("x-github-api-version", API_VERSION)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Vec::new());
    read(http, request).await
}

async fn read<T: DeserializeOwned>(
    http: &ProviderClient,
    request: Result<HttpRequest, poem::http::Error>,
) -> Result<T, ProviderError> {
    let request = request.map_err(|_| invalid("its token or its address fits in no request"))?;
    let answer = http.send(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(invalid(format!("it answered {}", answer.status())));
    }
    // What serde says may repeat the body, which holds a token.
    serde_json::from_slice(answer.body()).map_err(|_| invalid("its JSON does not fit"))
}
