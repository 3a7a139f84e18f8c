//! Which addresses may be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Forbidden;

/// What is not public of IPv4: IANA's special-purpose registry (RFC 6890 and its updates) and multicast (RFC 5771).
/// Rows that IANA calls globally reachable are refused too: they are anycast services of networks, not receivers.
const SPECIAL_V4: [Ipv4Net; 18] = [
    v4([0, 0, 0, 0], 8),       // this network, RFC 791
    v4([10, 0, 0, 0], 8),      // private, RFC 1918
    v4([100, 64, 0, 0], 10),   // shared by carriers (CGNAT), RFC 6598
    v4([127, 0, 0, 0], 8),     // loopback, RFC 1122
    v4([169, 254, 0, 0], 16),  // link-local, RFC 3927
    v4([172, 16, 0, 0], 12),   // private, RFC 1918
    v4([192, 0, 0, 0], 24), // protocol assignments, RFC 6890: DS-Lite, PCP, TURN, NAT64 discovery
    v4([192, 0, 2, 0], 24), // documentation, RFC 5737
    v4([192, 31, 196, 0], 24), // AS112, RFC 7535
    v4([192, 52, 193, 0], 24), // AMT, RFC 7450
    v4([192, 88, 99, 0], 24), // relays of 6to4, deprecated by RFC 7526
    v4([192, 168, 0, 0], 16), // private, RFC 1918
    v4([192, 175, 48, 0], 24), // AS112, RFC 7534
    v4([198, 18, 0, 0], 15), // benchmarking, RFC 2544
    v4([198, 51, 100, 0], 24), // documentation, RFC 5737
    v4([203, 0, 113, 0], 24), // documentation, RFC 5737
    v4([224, 0, 0, 0], 4),  // multicast, RFC 5771
    v4([240, 0, 0, 0], 4),  // reserved and broadcast, RFC 1112 and RFC 8190
];

/// All that is public of IPv6 lies in here (RFC 4291, section 2.4, and IANA's list of unicast assignments). What the
/// registry has outside of it is refused with the rest: `::/96` and `::ffff:0:0:0/96` with an IPv4 address inside,
/// `64:ff9b:1::/48` (NAT64 of a site, RFC 8215), `100::/64` and `100:0:0:1::/64` (discard and dummy, RFC 6666 and RFC
/// 9780), `5f00::/16` (segment routing, RFC 9602), `fc00::/7` (unique local), `fe80::/10`, `fec0::/10`, `ff00::/8`.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// What is not public in there: IANA's special-purpose registry. `2002::/16` is judged by what it carries.
const SPECIAL_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0, 0], 23), // protocol assignments, RFC 2928: Teredo, benchmarking, AMT, AS112, ORCHID, DRIP
    v6([0x2001, 0xdb8, 0], 32), // documentation, RFC 3849
    v6([0x2620, 0x4f, 0x8000], 48), // AS112, RFC 7534
    v6([0x3fff, 0, 0], 20), // documentation, RFC 9637
];

/// Where clouds hand out credentials. Only a network of this one address allows it: whoever lets webhooks into
/// `10.0.0.0/8` or `fd00::/8` does not mean these, and some lie outside of every special network.
const METADATA: [IpAddr; 10] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), // AWS, Azure, Google Cloud and most others
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),   // AWS ECS, credentials of tasks
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),  // AWS EKS, credentials of pods
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),   // Azure, the wire server: a public address
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), // Alibaba Cloud
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),     // Oracle Cloud, the old one
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)), // AWS EKS, credentials of pods
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), // Google Cloud
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)), // Scaleway
];

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(head: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = head;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Whether `address` may be reached. `allowed` lists networks that may although they are not public.
pub(super) fn vet(address: IpAddr, allowed: &[IpNet]) -> Result<(), Forbidden> {
    let plain = match address {
        IpAddr::V6(v6) => {
            if let Some(tunnelled) = isatap(v6) {
                vet(tunnelled.into(), allowed)?;
            }
            stands_for(v6).map_or(address, IpAddr::V4)
        }
        IpAddr::V4(_) => address,
    };
    if METADATA.contains(&plain) {
        let named = |net: &IpNet| *net == IpNet::from(plain);
        return if allowed.iter().any(named) {
            Ok(())
        } else {
            Err(Forbidden)
        };
    }
    if is_public(plain) || allowed.iter().any(|net| net.contains(&plain)) {
        Ok(())
    } else {
        Err(Forbidden)
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|net| net.contains(&address))
        }
    }
}

/// The IPv4 address that an IPv6 one stands for: `::ffff:0:0/96` (mapped, RFC 4291), `64:ff9b::/96` (NAT64, RFC 6052),
/// `2002::/16` (6to4, RFC 3056). A NAT64 prefix of a site's own cannot be told from any other network of that site.
fn stands_for(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(joined(g, h)),
        [0x2002, high, low, ..] => Some(joined(high, low)),
        _ => None,
    }
}

/// The IPv4 address that a packet is tunnelled to within a site that uses ISATAP (RFC 5214, section 6.1), whatever the
/// network in front of it.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [.., 0 | 0x200, 0x5efe, high, low] => Some(joined(high, low)),
        _ => None,
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}
