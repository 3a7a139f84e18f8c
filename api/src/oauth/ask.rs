//! The three questions to an issuer, by the `openidconnect` crate. Each future owns what it needs and is boxed: once the
//! futures of that crate borrow something of ours, the compiler no longer sees that they may move between threads.

use futures::future::BoxFuture;
use openidconnect::{
    AccessToken, AuthorizationCode, DiscoveryError, EmptyAdditionalClaims, IssuerUrl,
    PkceCodeVerifier, RequestTokenError, StandardErrorResponse, SubjectIdentifier, UserInfoClaims,
    UserInfoError,
    core::{CoreErrorResponseType, CoreGenderClaim, CoreProviderMetadata, CoreTokenResponse},
};

use super::{
    client::{CallError, ProviderClient},
    oidc::Client,
    provider::{ProviderError, invalid},
};

type Asked<T> = BoxFuture<'static, Result<T, ProviderError>>;

/// What an issuer tells about itself, with its keys.
pub(super) fn metadata(http: ProviderClient, issuer: IssuerUrl) -> Asked<CoreProviderMetadata> {
    Box::pin(async move {
        let asked = CoreProviderMetadata::discover_async(issuer, &http).await;
        asked.map_err(discovery_error)
    })
}

/// The tokens that a code is good for.
pub(super) fn tokens(
    http: ProviderClient,
    client: Client,
    code: AuthorizationCode,
    verifier: PkceCodeVerifier,
) -> Asked<CoreTokenResponse> {
    Box::pin(async move {
        let request = client
            .exchange_code(code)
            .map_err(|_| invalid("it names no token endpoint"))?;
        let asked = request
            .set_pkce_verifier(verifier)
            .request_async(&http)
            .await;
        asked.map_err(token_error)
    })
}

/// The address of an account, and whether it is verified, from the issuer's UserInfo endpoint (OpenID Connect Core 1.0,
/// section 5.3).
pub(super) fn user_info(
    http: ProviderClient,
    client: Client,
    token: AccessToken,
    subject: SubjectIdentifier,
) -> Asked<(String, Option<bool>)> {
    Box::pin(async move {
        // The crate panics on one that no header can hold.
        if !token.secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("the access token is none"));
        }
        let Ok(request) = client.user_info(token, Some(subject)) else {
            return Err(ProviderError::Unverified);
        };
        let asked = request.request_async(&http).await;
        let claims: UserInfoClaims<EmptyAdditionalClaims, CoreGenderClaim> =
            asked.map_err(user_info_error)?;
        let email = claims.email().ok_or(ProviderError::Unverified)?;
        Ok((email.to_string(), claims.email_verified()))
    })
}

fn discovery_error(error: DiscoveryError<CallError>) -> ProviderError {
    match error {
        DiscoveryError::Request(error) => error.into(),
        DiscoveryError::Response(status, _, _) => CallError::Failed(status).into(),
        other => invalid(other.to_string()),
    }
}

/// Only the error's code, and only where the answer does not fit: the rest may repeat what was sent.
fn token_error(
    error: RequestTokenError<CallError, StandardErrorResponse<CoreErrorResponseType>>,
) -> ProviderError {
    match error {
        RequestTokenError::Request(error) => error.into(),
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            code @ CoreErrorResponseType::InvalidGrant => ProviderError::Refused(code.to_string()),
            // Such as `invalid_client`: the settings are wrong, and the log has to say so.
            other => invalid(other.to_string()),
        },
        RequestTokenError::Parse(error, _) => {
            invalid(format!("the token endpoint's, at {}", error.path()))
        }
        RequestTokenError::Other(words) => invalid(words),
    }
}

fn user_info_error(error: UserInfoError<CallError>) -> ProviderError {
    match error {
        UserInfoError::Request(error) => error.into(),
        UserInfoError::ClaimsVerification(error) => invalid(error.to_string()),
        UserInfoError::Response(status, _, _) => invalid(format!("UserInfo answered {status}")),
        other => invalid(other.to_string()),
    }
}
