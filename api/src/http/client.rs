//! Who sent a request, as far as the network says.

use std::net::IpAddr;

use poem::{Addr, Request, http::header};

const MAX_USER_AGENT: usize = 200;

/// Where a request came from. It is written down beside what was done, and decides nothing.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The address.
    pub(crate) address: Option<IpAddr>,
    /// What the program calls itself.
    pub(crate) user_agent: Option<String>,
}

impl Client {
    /// The client of a request.
    pub(crate) fn of(request: &Request) -> Self {
        let user_agent = request.header(header::USER_AGENT).map(|text| {
            let printable = text.chars().filter(|one| !one.is_control());
            printable.take(MAX_USER_AGENT).collect()
        });
        Self {
            address: client_address(request),
            user_agent,
        }
    }
}

/// The address that a request came from; none when it did not come through a socket.
pub(crate) fn client_address(request: &Request) -> Option<IpAddr> {
    match &request.remote_addr().0 {
        Addr::SocketAddr(address) => Some(address.ip().to_canonical()),
        _ => None,
    }
}
