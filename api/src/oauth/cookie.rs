//! The cookies that tie a sign-in to the browser that began it (RFC 6265).

use poem::{
    Request,
    http::{HeaderValue, header},
};
use relaypost_shared::settings::Settings;
use url::Url;

/// Where browsers reach this service: `PUBLIC_URL`.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The whole address, without a slash at the end.
    pub(super) url: String,
    https: bool,
    /// What stands before each path of ours where a proxy serves us under a path of its own; else nothing.
    path: String,
}

impl Site {
    pub(super) fn of(settings: &Settings) -> Self {
        let url = settings.auth.public_url.at("");
        let parsed = Url::parse(&url).ok();
        Self {
            https: parsed.as_ref().is_some_and(|url| url.scheme() == "https"),
            path: parsed.map_or_else(String::new, |url| {
                url.path().trim_end_matches('/').to_owned()
            }),
            url,
        }
    }
}

/// A cookie of the sign-in. Scripts cannot read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookie {
    pub(super) name: &'static str,
    /// Under which path of this service browsers send it.
    pub(super) path: &'static str,
    /// `Lax` comes along when a provider sends the browser back; `Strict` with requests of our own pages only.
    pub(super) same_site: &'static str,
    /// In seconds.
    pub(super) max_age: i64,
}

impl Cookie {
    /// The header that sets it.
    pub(super) fn set(&self, value: &str, site: &Site) -> Option<HeaderValue> {
        self.header(value, self.max_age, site)
    }

    /// The header that removes it.
    pub(super) fn remove(&self, site: &Site) -> Option<HeaderValue> {
        self.header("", 0, site)
    }

    fn header(&self, value: &str, max_age: i64, site: &Site) -> Option<HeaderValue> {
        let Self {
            name,
            path,
            same_site,
            ..
        } = self;
        let secure = if site.https { "; Secure" } else { "" };
        let under = &site.path;
        HeaderValue::try_from(format!(
            "{name}={value}; Path={under}{path}; Max-Age={max_age}; HttpOnly; SameSite={same_site}{secure}"
        ))
        .ok()
    }

    /// Its value, if the browser sends it.
    pub(super) fn of<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let headers = request.headers().get_all(header::COOKIE).iter();
        headers
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == self.name)
            .map(|(_, value)| value)
    }
}
