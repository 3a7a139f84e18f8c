//! The id of a request: the client's, if it sent a usable one, else a new one. It is in the answer, in every log line,
//! and on everything that the request makes. The audit log notes beside it from where the request came.

use std::{fmt, net::IpAddr, sync::Arc};

use poem::Request;
use relaypost_shared::{clock::Timestamp, ids::RequestId as NewId};

use super::problem::{ApiError, Code};

/// The header that carries it in both directions.
pub(crate) const HEADER: &str = "x-request-id";

const MAX_LEN: usize = 128;

/// The id of the request at hand: up to 128 of `[A-Za-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId {
    text: Arc<str>,
    client: IpAddr,
}

impl RequestId {
    /// What `client` sent, or else a new one.
    pub(crate) fn of(request: &Request, client: IpAddr, now: Timestamp) -> Self {
        let sent = request.header(HEADER).filter(|text| is_usable(text));
        Self {
            text: sent.map_or_else(|| NewId::generate(now).to_string().into(), Arc::from),
            client,
        }
    }

    /// The client address of the request.
    pub(crate) fn client(&self) -> IpAddr {
        self.client
    }

    /// The id that the outermost layer gave this request.
    ///
    /// # Errors
    /// 500 outside of that layer.
    pub(crate) fn current(request: &Request) -> Result<Self, ApiError> {
        let current = request.data::<Self>().cloned();
        current.ok_or_else(|| ApiError::new(Code::Internal, "the request has no id"))
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_usable(text: &str) -> bool {
    (1..=MAX_LEN).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
