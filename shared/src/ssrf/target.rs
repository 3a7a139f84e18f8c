//! The form that a webhook's URL must have.

use std::fmt;

use url::{Host, Url};

use super::Forbidden;

const MAX_LEN: usize = 2048;
/// RFC 1035, section 2.3.4.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A URL that webhooks may be sent to, if its host is a name: to those addresses of it that may be reached. Only
/// [`Guard::target`](super::Guard::target) makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Url);

/// Why webhooks may not be sent to a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is too long.
    #[error("expected at most {MAX_LEN} characters")]
    Long,
    /// It has spaces, line ends or control characters.
    #[error("spaces, line ends and control characters are not allowed")]
    Unprintable,
    /// It has a backslash, which some programs take for a slash.
    #[error("a backslash is not allowed: expected %5C")]
    Backslash,
    /// It is no URL.
    #[error("expected an absolute URL: {0}")]
    Malformed(url::ParseError),
    /// It is a URL of something else.
    #[error("expected an http or https URL")]
    Scheme,
    /// Plain http is not allowed.
    #[error("plain http is not allowed here: expected https")]
    PlainHttp,
    /// Its scheme is not followed by two slashes and a host.
    #[error("expected two slashes and a host after the scheme")]
    Form,
    /// It has a user name or a password.
    #[error("user names and passwords are not allowed; use `headers`")]
    Credentials,
    /// It has a fragment.
    #[error("a fragment (#…) is never sent and so not allowed")]
    Fragment,
    /// Nothing listens on port 0.
    #[error("port 0 is not allowed")]
    Port,
    /// Its host is neither an address nor a name of the domain name system.
    #[error(
        "expected a host name of letters, digits, hyphens, underscores and dots, or an address"
    )]
    Host,
    /// Its host is an address that may not be reached.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}

impl Target {
    /// Where webhooks go, as it is sent.
    pub fn into_url(self) -> Url {
        self.0
    }

    /// Where webhooks go, as it is sent.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The host: an address, or the name whose addresses are looked up.
    pub fn host(&self) -> Host<&str> {
        // Nobody can make one without a host; the empty name is refused by every resolver.
        self.0.host().unwrap_or(Host::Domain(""))
    }

    /// Reads a URL by the WHATWG's rules (<https://url.spec.whatwg.org/>), which bring every spelling of an address into
    /// one form, and refuses what others may read in another way.
    pub(super) fn parse(text: &str, allow_http: bool) -> Result<Self, Refused> {
        if text.len() > MAX_LEN {
            return Err(Refused::Long);
        }
        // The parser drops line ends, and spaces at the ends; what is stored has to be what was checked.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Refused::Unprintable);
        }
        if text.contains('\\') {
            return Err(Refused::Backslash);
        }
        let url = Url::parse(text).map_err(Refused::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if allow_http => {}
            "http" => return Err(Refused::PlainHttp),
            _ => return Err(Refused::Scheme),
        }
        check_authority(text, url.scheme())?;
        if url.fragment().is_some() {
            return Err(Refused::Fragment);
        }
        if url.port() == Some(0) {
            return Err(Refused::Port);
        }
        match url.host() {
            Some(Host::Domain(name)) if !is_name(name) => Err(Refused::Host),
            None => Err(Refused::Host),
            Some(_) => Ok(Self(url)),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A path and a query may be secrets.
        write!(f, "Target({})", self.host())
    }
}

/// The parser forgives `https:host` and `https:///host`, and drops a user name that is empty.
fn check_authority(text: &str, scheme: &str) -> Result<(), Refused> {
    let rest = text.get(scheme.len()..);
    let rest = rest.and_then(|rest| rest.strip_prefix("://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    match authority {
        None | Some("") => Err(Refused::Form),
        Some(authority) if authority.contains('@') => Err(Refused::Credentials),
        Some(_) => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= MAX_NAME
        && name.split('.').all(|label| {
            (1..=MAX_LABEL).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        })
}
