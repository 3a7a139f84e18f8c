//! Name resolution for webhooks: only addresses that may be reached come out, so that the address that was vetted is
//! the one that is connected to.

use std::net::SocketAddr;

use relaypost_shared::ssrf::Guard;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A resolver that leaves out what webhooks may not reach.
#[derive(Clone, Debug)]
pub(super) struct VettingResolver(pub(super) Guard);

impl Resolve for VettingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let vetted = guard.resolve(name.as_str()).await?;
            // Port 0 stands for the URL's.
            let addresses = vetted.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
