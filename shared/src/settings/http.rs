//! How a process takes HTTP requests: from which web pages, and how much of its time a client may take.

use std::{str::FromStr, time::Duration};

use url::Url;

use super::{reader::Reader, values::Whole};

/// How a process takes HTTP requests.
#[derive(Clone, Debug)]
pub struct Http {
    /// The web origins whose pages may call the API; nothing when the variable is not set, which also allows none.
    pub cors_origins: Option<Origins>,
    /// How long the head of a request may take to arrive.
    pub header_timeout: Duration,
    /// How long the body of a request may take to arrive, from the end of its head on.
    pub body_timeout: Duration,
    /// How long a request may take until its answer begins.
    pub request_timeout: Duration,
    /// How long a connection stays open without a request.
    pub keep_alive: Duration,
    /// How many connections are open at a time.
    pub max_connections: usize,
}

impl Http {
    pub(super) fn read(from: &mut Reader) -> Self {
        let cors_origins = from.optional("CORS_ORIGINS", "The web origins whose pages may call the API, exactly as browsers send them, with commas between them; `none` for none, which development takes when it is not set.");
        from.example(
            "CORS_ORIGINS",
            "https://app.example.com,https://admin.example.com",
        );
        from.required_in_production("CORS_ORIGINS");
        Self {
            cors_origins,
            header_timeout: from.or::<Whole<100, 600_000>>("HEADER_TIMEOUT_MS", "10000", "How long a client may take to send the head of a request, in milliseconds, and to send anything at all on a new connection. Then the connection is closed.").millis(),
            body_timeout: from.or::<Whole<100, 3_600_000>>("BODY_TIMEOUT_MS", "20000", "How long a client may take to send the body of a request, in milliseconds. Then the answer is 408.").millis(),
            request_timeout: from.or::<Whole<100, 3_600_000>>("REQUEST_TIMEOUT_MS", "30000", "How long a request may take until its answer begins, in milliseconds. Then the answer is 408 if the client still owes a part of the body, else 503.").millis(),
            keep_alive: from.or::<Whole<1, 3600>>("KEEP_ALIVE_SECONDS", "75", "How long a connection stays open without a request. Longer than the proxy in front of it keeps one, or the proxy meets closed connections.").seconds(),
            max_connections: from.or::<Whole<1, 1_000_000>>("MAX_CONNECTIONS", "10000", "How many connections one process has open at a time, at most three quarters of the files that it may open. A further one takes the place of the one that has kept the process waiting for longest.").into(),
        }
    }
}

/// Web origins ([RFC 6454](https://www.rfc-editor.org/rfc/rfc6454)), each as browsers send it in `Origin`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Whether this value of an `Origin` header is one of them.
    pub fn contains(&self, origin: &[u8]) -> bool {
        self.0.iter().any(|known| known.as_bytes() == origin)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Origins {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::default());
        }
        let origins: Option<_> = text.split(',').map(|part| origin(part.trim())).collect();
        origins.map(Self).ok_or(
            "expected `none`, or the exact origins of web pages with commas between them, without a path: \
             https://app.example.com,https://admin.example.com:8443",
        )
    }
}

/// An origin that a browser would send in these very letters; `*` and `null` are none.
fn origin(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    // A URL may have a star in its host; here it would look as if it stood for many.
    let known = ["http", "https"].contains(&url.scheme()) && !text.contains('*');
    (known && url.origin().ascii_serialization() == text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_only_in_the_letters_that_browsers_send() {
        let taken = "https://app.example.com, http://localhost:5173,https://[::1]:8443";
        let origins: Origins = taken.parse().unwrap();
        assert!(origins.contains(b"https://app.example.com"));
        assert!(origins.contains(b"http://localhost:5173"));
        assert!(!origins.contains(b"https://app.example.com.evil.test"));
        assert!("none".parse::<Origins>().unwrap().is_empty());
        for refused in [
            "*",
            "null",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com:443",
            "https://APP.example.com",
            "https://*.example.com",
            "https://user@app.example.com",
            "ftp://app.example.com",
            "https://app.example.com,",
            "https://app.example.com,none",
        ] {
            assert!(refused.parse::<Origins>().is_err(), "{refused}");
        }
    }
}
