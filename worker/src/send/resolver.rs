//! Name resolution for webhooks: only addresses that may be reached come out, so that the address that was vetted is
//! the one that is connected to.

use std::{net::SocketAddr, sync::Arc};

use relaypost_shared::{settings::Networks, ssrf};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The host has no address.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the host has no address")]
pub(super) struct NoAddress;

/// A resolver that leaves out what webhooks may not reach.
#[derive(Clone, Debug)]
pub(super) struct VettingResolver {
    allowed: Arc<Networks>,
}

impl VettingResolver {
    pub(super) fn new(allowed: Arc<Networks>) -> Self {
        Self { allowed }
    }
}

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<SocketAddr> = found.map_err(|_| NoAddress)?.collect();
            if found.is_empty() {
                return Err(NoAddress.into());
            }
            let vetted: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| ssrf::vet(address.ip(), &allowed.0).is_ok())
                .collect();
            if vetted.is_empty() {
                return Err(ssrf::Forbidden.into());
            }
            Ok(Box::new(vetted.into_iter()) as Addrs)
        })
    }
}
