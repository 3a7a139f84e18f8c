//! Which proxies stand in front of the API, and which of their headers counts.

use std::{net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net};

use super::reader::Reader;

/// Most proxies that can stand in a row.
const MAX_HOPS: usize = 16;

/// Whose word about a client's address is taken, and in which header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// The proxies that are believed.
    pub trusted: TrustedProxies,
    /// The header in which they say whom they forward for.
    pub header: ForwardingHeader,
}

/// The proxies that are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedProxies {
    /// This many in a row, counted from the API outwards, wherever they are; none: 0.
    Hops(usize),
    /// Those with an address in one of these networks.
    Networks(Vec<IpNet>),
}

/// The header in which proxies say whom they forward for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`: addresses with commas between them, the client first.
    #[default]
    XForwardedFor,
    /// `Forwarded`, as RFC 7239 has it.
    Forwarded,
}

impl Proxies {
    /// Whether `TRUST_PROXY` says that there is a proxy in front of the API.
    pub fn are_set(&self) -> bool {
        self.trusted != TrustedProxies::default()
    }

    pub(super) fn read(from: &mut Reader) -> Self {
        Self {
            trusted: from.or("TRUST_PROXY", "0", "The proxies in front of the API, whose word about a client's address is taken: how many there are in a row (`0`: none, `1`, `2`), or where they are: networks and the names `loopback`, `linklocal` and `private` (also `uniquelocal`) with commas between them, such as `loopback,10.0.0.0/8`. Count them only if nobody reaches the API around them."),
            header: from.or("TRUST_PROXY_HEADER", "x-forwarded-for", "The header in which those proxies say whom they forward for, `x-forwarded-for` or `forwarded` (RFC 7239). The other one is never read: a proxy that writes only the one passes on what a client has put into the other."),
        }
    }
}

impl TrustedProxies {
    /// Whether the word of the peer at `address`, which is this many hops away from the API's own peer, is taken.
    pub fn believes(&self, address: IpAddr, hops: usize) -> bool {
        match self {
            Self::Hops(trusted) => hops < *trusted,
            Self::Networks(networks) => networks.iter().any(|network| network.contains(&address)),
        }
    }
}

impl Default for TrustedProxies {
    fn default() -> Self {
        Self::Hops(0)
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let hops = text.parse().ok().filter(|hops| *hops <= MAX_HOPS);
            return hops
                .map(Self::Hops)
                .ok_or_else(|| format!("expected at most {MAX_HOPS} proxies"));
        }
        let mut networks = Vec::new();
        for part in text.split(',').map(str::trim) {
            networks.extend(network(part)?);
        }
        Ok(Self::Networks(networks))
    }
}

/// The networks that one part of the list stands for.
fn network(text: &str) -> Result<Vec<IpNet>, String> {
    let named = match text {
        "loopback" => &["127.0.0.0/8", "::1/128"][..],
        "linklocal" => &["169.254.0.0/16", "fe80::/10"],
        "private" | "uniquelocal" => &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"],
        _ => &[],
    };
    if !named.is_empty() {
        return Ok(named.iter().filter_map(|text| text.parse().ok()).collect());
    }
    let network: Option<IpNet> = text
        .parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network.map(as_compared) {
        Some(network) if network.prefix_len() < narrowest(&network) => Err(
            "expected networks of proxies: one this large would let clients choose their own address"
                .into(),
        ),
        Some(network) => Ok(vec![network]),
        None => Err(
            "expected a number of proxies, or networks and the names loopback, linklocal, private \
             with commas between them: loopback,10.0.0.0/8"
                .into(),
        ),
    }
}

/// The shortest prefix of a network that can be all proxies: `10.0.0.0/8`, `fc00::/7`.
fn narrowest(network: &IpNet) -> u8 {
    match network {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 7,
    }
}

/// Addresses are compared as IPv4 when they are IPv4 in IPv6 (`::ffff:10.0.0.1`), so their networks have to be as well.
fn as_compared(network: IpNet) -> IpNet {
    if let IpNet::V6(mapped) = network
        && let Some(address) = mapped.addr().to_ipv4_mapped()
        && let Some(length) = mapped.prefix_len().checked_sub(96)
        && let Ok(network) = Ipv4Net::new(address, length)
    {
        return IpNet::V4(network);
    }
    network
}

impl FromStr for ForwardingHeader {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err("expected x-forwarded-for or forwarded"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn believes(setting: &str, address: &str) -> bool {
        let trusted: TrustedProxies = setting.parse().unwrap();
        trusted.believes(address.parse().unwrap(), 0)
    }

    #[test]
    fn names_and_networks_mix() {
        let setting = "loopback, uniquelocal,192.0.2.7,linklocal,::ffff:198.51.100.0/120";
        for inside in [
            "127.9.9.9",
            "::1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.9.9",
            "fd00::1",
            "192.0.2.7",
            "169.254.0.1",
            "fe80::1",
            "198.51.100.9",
        ] {
            assert!(believes(setting, inside), "{inside}");
        }
        for outside in [
            "192.0.2.8",
            "172.32.0.1",
            "2001:db8::1",
            "198.51.101.1",
            "11.0.0.1",
        ] {
            assert!(!believes(setting, outside), "{outside}");
        }
        assert_eq!("2".parse(), Ok(TrustedProxies::Hops(2)));
    }

    #[test]
    fn what_is_no_proxy_is_refused() {
        for wrong in [
            "17",
            "-1",
            "all",
            "10.0.0.0/33",
            "loopback,",
            "0.0.0.0/0",
            "::/0",
            "1,2",
        ] {
            assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser_and_none_trusts_everybody(text in "[0-9a-f:./, a-z]{0,40}") {
            if let Ok(TrustedProxies::Networks(networks)) = text.parse() {
                prop_assert!(networks.iter().all(|network| network.prefix_len() >= 7));
            }
        }
    }
}
