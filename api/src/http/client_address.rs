//! Whose request it is: the address behind the proxies that are believed (`TRUST_PROXY`).
//!
//! Every proxy adds, at the right end of a list, the address that connected to it. So only the right end was written by
//! somebody we know, and everything to the left of the first address that is not a believed proxy may be invented by
//! the client. The list is read from right to left and no further than that.
//!
//! One header counts, `X-Forwarded-For` unless the settings say `Forwarded`, and the other is not looked at. Were both
//! read, or whichever is there, a client could put an address into the one that its proxy does not write.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
};

use poem::{
    Request,
    http::{HeaderMap, HeaderName},
};
use relaypost_shared::settings::{ForwardingHeader, Proxies, TrustedProxies};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The address of the client of the request at hand, as the outermost layer found it.
#[derive(Clone, Copy, Debug)]
struct ClientAddress(IpAddr);

/// Finds the client's address and keeps it with the request, for [`client_address`].
pub(crate) fn find(request: &mut Request, proxies: &Proxies) -> IpAddr {
    let socket = request.remote_addr().as_socket_addr();
    let peer = socket.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
    let found = behind(peer, request.headers(), proxies);
    request.set_data(ClientAddress(found));
    found
}

/// The address of the client, IPv4 in IPv6 as IPv4; `0.0.0.0` for a request that came through no socket.
pub(crate) fn client_address(request: &Request) -> IpAddr {
    request
        .data::<ClientAddress>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |found| found.0)
}

/// The client of a request that `peer` sent with these headers.
fn behind(peer: IpAddr, headers: &HeaderMap, proxies: &Proxies) -> IpAddr {
    let trusted = &proxies.trusted;
    // Several lines of one header are one list.
    match proxies.header {
        ForwardingHeader::XForwardedFor => {
            let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
            let parts = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
            walk(peer, parts.map(plain), trusted)
        }
        ForwardingHeader::Forwarded => {
            let lines = headers.get_all(FORWARDED).iter().rev();
            let elements = lines.flat_map(|line| FromTheRight(Some(line.as_bytes())));
            walk(peer, elements.map(forwarded_for), trusted)
        }
    }
}

/// Walks from `peer` outwards as long as those who speak are believed. Who says nothing that can be read is the last
/// one known.
fn walk(
    peer: IpAddr,
    mut said: impl Iterator<Item = Option<IpAddr>>,
    trusted: &TrustedProxies,
) -> IpAddr {
    let mut client = peer.to_canonical();
    let mut hops = 0;
    while trusted.believes(client, hops) {
        let Some(Some(next)) = said.next() else { break };
        client = next.to_canonical();
        hops += 1;
    }
    client
}

/// An element of `X-Forwarded-For`.
fn plain(part: &[u8]) -> Option<IpAddr> {
    node(std::str::from_utf8(part).ok()?.trim())
}

/// An address, with or without brackets and a port. `unknown` and names (`_proxy`) are none.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':')?),
            };
            (IpAddr::V6(address.parse().ok()?), port)
        }
        None => {
            let (address, port) = text.split_once(':')?;
            (IpAddr::V4(address.parse().ok()?), Some(port))
        }
    };
    port.is_none_or(is_port).then_some(address)
}

/// RFC 7239, section 6: `node-port`.
fn is_port(text: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.strip_prefix('_') {
        Some(rest) => !rest.is_empty() && rest.bytes().all(name),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// The elements of one line of `Forwarded`, the last one first.
///
/// It begins at the right because a client may begin a quoted text on the left and never end it: read from there, it
/// would swallow what the proxies have added. From the right their elements stand for themselves, whatever is before.
struct FromTheRight<'a>(Option<&'a [u8]>);

impl<'a> Iterator for FromTheRight<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0.take()?;
        let mut quoted = false;
        let mut at = rest.len();
        while at > 0 {
            at -= 1;
            match rest[at] {
                b'"' if !quoted => quoted = true,
                b'"' => {
                    // A quote inside of a quoted text is escaped: an odd number of backslashes stands before it.
                    let before = &rest[..at];
                    let slashes = before
                        .iter()
                        .rev()
                        .take_while(|byte| **byte == b'\\')
                        .count();
                    quoted = slashes % 2 == 1;
                    at -= slashes;
                }
                b',' if !quoted => {
                    self.0 = Some(&rest[..at]);
                    return Some(&rest[at + 1..]);
                }
                _ => {}
            }
        }
        Some(rest)
    }
}

/// The address in the `for` of an element of `Forwarded` (RFC 7239, section 4); none when the element is not well
/// formed, has no `for` or more than one, or an identifier that is no address.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut rest = std::str::from_utf8(element).ok()?.trim();
    let mut found = None;
    while !rest.is_empty() {
        if let Some(next) = rest.strip_prefix(';') {
            rest = next.trim_start();
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        if name.trim().eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
        rest = after.trim_start();
        if !rest.is_empty() && !rest.starts_with(';') {
            return None;
        }
    }
    node(&found?)
}

/// A token or a quoted text at the beginning of `text`, and what comes after it.
fn value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let token = text[..end].trim();
        let fits = !token.is_empty() && !token.contains('"');
        return fits.then_some((token.into(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value.into(), &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests;
