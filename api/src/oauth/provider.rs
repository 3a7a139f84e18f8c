//! The providers, and what they say of somebody.

use std::fmt;

use poem_openapi::registry::MetaSchema;
use relaypost_shared::people::SignInMethod;
use serde_json::json;

use super::client::CallError;
use crate::http::{ApiError, Code, TextValue};

/// A provider, as the path names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Github,
    Google,
    Oidc,
}

impl Provider {
    const ALL: [Self; 3] = [Self::Github, Self::Google, Self::Oidc];

    pub(super) const fn method(self) -> SignInMethod {
        match self {
            Self::Github => SignInMethod::Github,
            Self::Google => SignInMethod::Google,
            Self::Oidc => SignInMethod::Oidc,
        }
    }

    /// Where a provider sends the browser back to, on this service.
    pub(super) fn callback(self) -> String {
        format!("/auth/oauth/{}/callback", self.method())
    }
}

impl TextValue for Provider {
    const SCHEMA_NAME: Option<&'static str> = Some("OauthProvider");

    fn schema() -> MetaSchema {
        MetaSchema {
            enum_items: Self::ALL
                .map(|provider| json!(provider.method().as_str()))
                .into(),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.method().as_str() == text)
            .ok_or_else(|| "expected one of github, google, oidc".to_owned())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method().as_str())
    }
}

/// Whom a provider says that somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Who says so.
    pub(super) issuer: String,
    /// The account's id there, which never changes and is never given to another.
    pub(super) subject: String,
    /// Its address, which the provider has verified.
    pub(super) address: VerifiedAddress,
}

/// As the audit log names it.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.issuer, self.subject)
    }
}

/// An email address that a provider has verified, in the form in which users are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VerifiedAddress(String);

impl VerifiedAddress {
    const MAX_BYTES: usize = 254;

    /// Takes an address that the provider calls verified; nothing when it is no address.
    ///
    /// Only ASCII is put in lower case. Unicode's lower case makes some other letters into ASCII ones (the Kelvin sign K
    /// becomes k), so that whoever owns the one address would sign in as the user with the other.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        let plausible = !local.is_empty()
            && !domain.is_empty()
            && text.len() <= Self::MAX_BYTES
            && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        plausible.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The address.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A provider did not say who somebody is.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProviderError {
    /// It cannot be reached, or fails.
    #[error("the provider is not available: {0}")]
    Unavailable(#[from] CallError),
    /// It refused: the code is wrong or used, or somebody said no.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// Its answer does not hold what the protocol asks for, or somebody forged it.
    #[error("the provider's answer is not valid: {0}")]
    Invalid(String),
    /// It does not vouch for the address.
    #[error("the provider has no verified address of them")]
    Unverified,
}

/// [`ProviderError::Invalid`].
pub(super) fn invalid(words: impl Into<String>) -> ProviderError {
    ProviderError::Invalid(words.into())
}

impl From<ProviderError> for ApiError {
    fn from(error: ProviderError) -> Self {
        let (code, detail) = match &error {
            ProviderError::Unavailable(_) => (
                Code::ProviderUnavailable,
                "the provider does not answer; begin the sign-in again in a while",
            ),
            ProviderError::Refused(_) => (
                Code::ProviderRefused,
                "the provider did not sign you in; begin the sign-in again",
            ),
            ProviderError::Invalid(_) => (
                Code::ProviderInvalid,
                "the provider's answer is not valid; the request id leads to the log entry",
            ),
            ProviderError::Unverified => (
                Code::AddressNotVerified,
                "the provider has not verified an email address of yours; verify it there first",
            ),
        };
        let mut answer = Self::new(code, detail);
        // What somebody did themselves is no fault of the service.
        if matches!(
            error,
            ProviderError::Unavailable(_) | ProviderError::Invalid(_)
        ) {
            answer.cause = Some(std::sync::Arc::new(error));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_compared_in_lower_case_and_no_other_letter_becomes_an_ascii_one() {
        let address = |text| VerifiedAddress::new(text).map(|address| address.0);
        assert_eq!(address("Kim@Example.COM").unwrap(), "kim@example.com");
        assert_eq!(
            address("\u{212a}im@example.com").unwrap(),
            "\u{212a}im@example.com"
        );
        for text in [
            "",
            "kim",
            "@example.com",
            "kim@",
            "kim @example.com",
            "kim@example.com\r\nx",
        ] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }
}
