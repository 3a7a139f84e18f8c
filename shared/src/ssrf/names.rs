//! Looking names up.

use std::{fmt::Debug, io, net::IpAddr};

use futures::future::BoxFuture;

use super::Forbidden;

/// Finds the addresses of names. A test puts its own answers here; nothing else of the way to a receiver changes.
pub trait Names: Debug + Send + Sync {
    /// Every address of this name, those that may not be reached included.
    ///
    /// # Errors
    /// When it cannot be looked up, or is not known.
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver (`getaddrinfo`).
#[derive(Clone, Copy, Debug)]
pub struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// A name leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// It has no address.
    #[error("the host has no address")]
    NoAddress,
    /// It has addresses, and none of them may be reached.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
}
