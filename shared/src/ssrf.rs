//! Which addresses a webhook may reach: the guard against server-side request forgery. The API asks before it takes an
//! endpoint, the worker asks at every attempt about the address that it is about to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The address leads into a network that webhooks may not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address is in a private, local or reserved network")]
pub struct Forbidden;

/// Whether `address` may be reached. `allowed` lists networks that may although they are private.
///
/// An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is judged by what it carries.
///
/// # Errors
/// [`Forbidden`] when it may not.
pub fn vet(address: IpAddr, allowed: &[IpNet]) -> Result<(), Forbidden> {
    let address = inner(address);
    if allowed.iter().any(|net| net.contains(&address)) {
        return Ok(());
    }
    let forbidden = match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    };
    if forbidden { Err(Forbidden) } else { Ok(()) }
}

/// The IPv4 address inside an IPv6 one: `::ffff:0:0/96` (RFC 4291), `64:ff9b::/96` (RFC 6052), `2002::/16` (RFC 3056).
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let carried =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => carried(g, h),
        [0x2002, high, low, ..] => carried(high, low),
        _ => address,
    }
}

/// IANA's IPv4 special-purpose registry (RFC 6890 and its updates), multicast included.
fn forbidden_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, ..)
    )
}

/// IANA's IPv6 special-purpose registry: of all of IPv6 only `2000::/3` is public, and parts of that are not.
fn forbidden_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let public = (a & 0xe000) == 0x2000;
    !public
        || (a == 0x2001 && b < 0x200)
        || (a == 0x2001 && b == 0xdb8)
        || (a == 0x3fff && b < 0x1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_may_be_reached() {
        for text in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001:db8::1",
            "::127.0.0.1",
        ] {
            assert_eq!(vet(text.parse().unwrap(), &[]), Err(Forbidden), "{text}");
        }
        for text in [
            "93.184.216.34",
            "1.1.1.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(vet(text.parse().unwrap(), &[]), Ok(()), "{text}");
        }
    }

    #[test]
    fn an_allowed_network_may_be_reached_in_every_spelling() {
        let allowed = ["127.0.0.0/8".parse().unwrap()];
        assert_eq!(vet("127.0.0.1".parse().unwrap(), &allowed), Ok(()));
        assert_eq!(vet("::ffff:127.0.0.1".parse().unwrap(), &allowed), Ok(()));
        assert_eq!(vet("10.0.0.1".parse().unwrap(), &allowed), Err(Forbidden));
    }
}
