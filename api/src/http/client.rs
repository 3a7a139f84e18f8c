//! Who sent a request, as far as the network says.

use std::net::IpAddr;

use poem::{Request, http::header};

use super::client_address::client_address;

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
            address: Some(client_address(request)),
            user_agent,
        }
    }
}
