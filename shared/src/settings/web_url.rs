//! Addresses of servers.

use std::{fmt, str::FromStr};

use url::Url;

/// An http or https address without user, query and fragment, kept as it was written: issuers are compared by character.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WebUrl(String);

impl WebUrl {
    /// The address as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of `path`, which begins with a slash, on this server.
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0.trim_end_matches('/'))
    }

    /// Whether what goes there is encrypted.
    pub fn is_https(&self) -> bool {
        self.0
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WebUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            "expected an address like https://login.example.com, without user, query and fragment";
        let url = Url::parse(text).map_err(|_| wrong)?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_as_written_and_paths_are_put_behind_it() {
        let url: WebUrl = "HTTPS://login.example.com/realms/staff/".parse().unwrap();
        assert_eq!(url.as_str(), "HTTPS://login.example.com/realms/staff/");
        assert_eq!(url.at("/x"), "HTTPS://login.example.com/realms/staff/x");
        assert!(url.is_https());
    }

    #[test]
    fn what_is_more_than_an_address_is_refused() {
        for text in [
            "",
            "login.example.com",
            "ftp://example.com",
            "https://user@example.com",
            "https://:secret@example.com",
            "https://example.com?x=1",
            "https://example.com#x",
            "https://",
        ] {
            assert!(text.parse::<WebUrl>().is_err(), "{text}");
        }
    }
}
