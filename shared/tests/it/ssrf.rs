//! Which addresses and which URLs webhooks may reach, row by row.

use std::{collections::HashMap, net::IpAddr};

use relaypost_shared::{
    settings::{Settings, Webhooks},
    ssrf::{Forbidden, Guard, Refused},
};

/// The settings of a production that lets webhooks into these networks.
pub(crate) fn settings(allowed: &str) -> Webhooks {
    let env = HashMap::from([("WEBHOOK_ALLOW_CIDRS".to_owned(), allowed.to_owned())]);
    let mut webhooks = Settings::from_map(env).unwrap().webhooks;
    // Development adds this machine itself, and plain http.
    webhooks.allow_cidrs = allowed.parse().unwrap();
    webhooks.allow_http = false;
    webhooks
}

pub(crate) fn guard(allowed: &str) -> Guard {
    Guard::new(&settings(allowed))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Every row of IANA's special-purpose registries (<https://www.iana.org/assignments/iana-ipv4-special-registry> and
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>, as of 2025) and of multicast: the first address, the
/// last one, and the neighbours outside where they are public.
const REGISTRY: [(&str, &str, &str, &[&str]); 52] = [
    ("0.0.0.0/8", "0.0.0.0", "0.255.255.255", &["1.0.0.0"]),
    (
        "10.0.0.0/8",
        "10.0.0.0",
        "10.255.255.255",
        &["9.255.255.255", "11.0.0.0"],
    ),
    (
        "100.64.0.0/10",
        "100.64.0.0",
        "100.127.255.255",
        &["100.63.255.255", "100.128.0.0"],
    ),
    (
        "127.0.0.0/8",
        "127.0.0.0",
        "127.255.255.255",
        &["126.255.255.255", "128.0.0.0"],
    ),
    (
        "169.254.0.0/16",
        "169.254.0.0",
        "169.254.255.255",
        &["169.253.255.255", "169.255.0.0"],
    ),
    (
        "172.16.0.0/12",
        "172.16.0.0",
        "172.31.255.255",
        &["172.15.255.255", "172.32.0.0"],
    ),
    (
        "192.0.0.0/24",
        "192.0.0.0",
        "192.0.0.255",
        &["191.255.255.255", "192.0.1.0"],
    ),
    ("192.0.0.0/29", "192.0.0.0", "192.0.0.7", &[]),
    ("192.0.0.8/32", "192.0.0.8", "192.0.0.8", &[]),
    ("192.0.0.9/32", "192.0.0.9", "192.0.0.9", &[]),
    ("192.0.0.10/32", "192.0.0.10", "192.0.0.10", &[]),
    ("192.0.0.170/31", "192.0.0.170", "192.0.0.171", &[]),
    (
        "192.0.2.0/24",
        "192.0.2.0",
        "192.0.2.255",
        &["192.0.1.255", "192.0.3.0"],
    ),
    (
        "192.31.196.0/24",
        "192.31.196.0",
        "192.31.196.255",
        &["192.31.195.255", "192.31.197.0"],
    ),
    (
        "192.52.193.0/24",
        "192.52.193.0",
        "192.52.193.255",
        &["192.52.192.255", "192.52.194.0"],
    ),
    (
        "192.88.99.0/24",
        "192.88.99.0",
        "192.88.99.255",
        &["192.88.98.255", "192.88.100.0"],
    ),
    (
        "192.168.0.0/16",
        "192.168.0.0",
        "192.168.255.255",
        &["192.167.255.255", "192.169.0.0"],
    ),
    (
        "192.175.48.0/24",
        "192.175.48.0",
        "192.175.48.255",
        &["192.175.47.255", "192.175.49.0"],
    ),
    (
        "198.18.0.0/15",
        "198.18.0.0",
        "198.19.255.255",
        &["198.17.255.255", "198.20.0.0"],
    ),
    (
        "198.51.100.0/24",
        "198.51.100.0",
        "198.51.100.255",
        &["198.51.99.255", "198.51.101.0"],
    ),
    (
        "203.0.113.0/24",
        "203.0.113.0",
        "203.0.113.255",
        &["203.0.112.255", "203.0.114.0"],
    ),
    (
        "224.0.0.0/4",
        "224.0.0.0",
        "239.255.255.255",
        &["223.255.255.255"],
    ),
    ("240.0.0.0/4", "240.0.0.0", "255.255.255.254", &[]),
    (
        "255.255.255.255/32",
        "255.255.255.255",
        "255.255.255.255",
        &[],
    ),
    ("::1/128", "::1", "::1", &[]),
    ("::/128", "::", "::", &[]),
    (
        "::/96 (IPv4-compatible)",
        "::0.0.0.2",
        "::255.255.255.255",
        &[],
    ),
    (
        "::ffff:0:0:0/96 (IPv4-translated)",
        "::ffff:0:1.1.1.1",
        "::ffff:0:255.255.255.255",
        &[],
    ),
    (
        "64:ff9b:1::/48",
        "64:ff9b:1::",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    ("100::/64", "100::", "100::ffff:ffff:ffff:ffff", &[]),
    (
        "100:0:0:1::/64",
        "100:0:0:1::",
        "100::1:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "2001::/23",
        "2001::",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        &["2000:ffff::1", "2001:200::"],
    ),
    (
        "2001::/32 (Teredo)",
        "2001::",
        "2001:0:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    ("2001:1::1/128", "2001:1::1", "2001:1::1", &[]),
    ("2001:1::2/128", "2001:1::2", "2001:1::2", &[]),
    ("2001:1::3/128", "2001:1::3", "2001:1::3", &[]),
    (
        "2001:2::/48",
        "2001:2::",
        "2001:2:0:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "2001:3::/32",
        "2001:3::",
        "2001:3:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "2001:4:112::/48",
        "2001:4:112::",
        "2001:4:112:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "2001:10::/28",
        "2001:10::",
        "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "2001:20::/28",
        "2001:20::",
        "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "2001:30::/28",
        "2001:30::",
        "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "2001:db8::/32",
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        &["2001:db7::1", "2001:db9::"],
    ),
    (
        "2620:4f:8000::/48",
        "2620:4f:8000::",
        "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
        &["2620:4f:7fff::1", "2620:4f:8001::"],
    ),
    (
        "3fff::/20",
        "3fff::",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        &["3ffe:ffff::1", "3fff:1000::"],
    ),
    (
        "4000::/2 and 8000::/2 (not assigned)",
        "4000::",
        "dfff:ffff::",
        &["3fff:ffff::"],
    ),
    (
        "5f00::/16",
        "5f00::",
        "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "fc00::/7",
        "fc00::",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "fe80::/10",
        "fe80::",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "fec0::/10 (site-local)",
        "fec0::",
        "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    (
        "ff00::/8 (multicast)",
        "ff00::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        &[],
    ),
    ("0000::/8 (reserved)", "0:0:0:1::", "ff:ffff::", &[]),
];

#[test]
fn every_row_of_the_special_purpose_registries_is_refused_and_its_neighbours_are_not() {
    let guard = guard("");
    for (row, first, last, outside) in REGISTRY {
        for inside in [first, last] {
            assert_eq!(guard.address(ip(inside)), Err(Forbidden), "{row}: {inside}");
        }
        for neighbour in outside {
            assert_eq!(guard.address(ip(neighbour)), Ok(()), "{row}: {neighbour}");
        }
    }
}

/// Every way in which an IPv6 address can stand for this IPv4 one.
fn stand_ins(address: [u8; 4]) -> [String; 5] {
    let [a, b, c, d] = address;
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        format!("::ffff:{a}.{b}.{c}.{d}"),
        format!("64:ff9b::{a}.{b}.{c}.{d}"),
        format!("2002:{high:x}:{low:x}::"),
        format!("2002:{high:x}:{low:x}:1:2:3:4:5"),
        // ISATAP in a public network.
        format!("2606:4700::200:5efe:{high:x}:{low:x}"),
    ]
}

#[test]
fn an_address_that_stands_for_another_is_judged_as_that_one() {
    let guard = guard("10.1.0.0/16");
    for (address, verdict) in [
        ([93, 184, 216, 34], Ok(())),
        ([10, 1, 2, 3], Ok(())),
        ([10, 2, 0, 1], Err(Forbidden)),
        ([127, 0, 0, 1], Err(Forbidden)),
        ([169, 254, 169, 254], Err(Forbidden)),
        ([168, 63, 129, 16], Err(Forbidden)),
        ([0, 0, 0, 0], Err(Forbidden)),
    ] {
        assert_eq!(guard.address(address.into()), verdict, "{address:?}");
        for stand_in in stand_ins(address) {
            assert_eq!(guard.address(ip(&stand_in)), verdict, "{stand_in}");
        }
    }
    // A forbidden network stays so whatever the tunnel leads to.
    assert_eq!(guard.address(ip("fe80::5efe:1.1.1.1")), Err(Forbidden));
}

#[test]
fn a_network_of_ipv6_lets_nothing_of_ipv4_in() {
    for everything in ["::/0", "::/0,64:ff9b::/96,2002::/16"] {
        let guard = guard(everything);
        assert_eq!(guard.address(ip("::1")), Ok(()));
        assert_eq!(guard.address(ip("10.0.0.1")), Err(Forbidden));
        for stand_in in &stand_ins([10, 0, 0, 1])[..4] {
            assert_eq!(guard.address(ip(stand_in)), Err(Forbidden), "{stand_in}");
        }
    }
    let mapped = guard("::ffff:10.0.0.0/104");
    assert_eq!(mapped.address(ip("10.9.9.9")), Ok(()));
    assert_eq!(mapped.address(ip("::ffff:10.9.9.9")), Ok(()));
    assert_eq!(mapped.address(ip("11.0.0.1")), Ok(()));
    assert_eq!(mapped.address(ip("127.0.0.1")), Err(Forbidden));
}

#[test]
fn a_metadata_address_is_reached_only_by_those_who_name_it_alone() {
    for address in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fd00:42::42",
    ] {
        for allowed in [
            "",
            "0.0.0.0/0,::/0",
            "169.254.0.0/16,100.64.0.0/10,168.63.0.0/16,fd00::/8",
        ] {
            let verdict = guard(allowed).address(ip(address));
            assert_eq!(verdict, Err(Forbidden), "{address} in {allowed:?}");
        }
        let length = if address.contains(':') { 128 } else { 32 };
        let named = guard(&format!("{address}/{length}"));
        assert_eq!(named.address(ip(address)), Ok(()), "{address}");
    }
    let named = guard("169.254.169.254/32");
    assert_eq!(named.address(ip("::ffff:169.254.169.254")), Ok(()));
    assert_eq!(named.address(ip("169.254.169.253")), Err(Forbidden));
}

#[test]
fn a_url_has_one_meaning_or_is_refused() {
    use Refused::{
        Backslash, Credentials, Form, Fragment, Host, Long, PlainHttp, Port, Scheme, Unprintable,
    };
    let guard = guard("");
    for url in [
        "https://example.com/hooks?x=1",
        "https://example.com:8443",
        "https://example.com./",
        "HTTPS://EXAMPLE.com/",
        "https://b\u{fc}cher.example/",
        "https://a_b.example/",
        "https://receiver/",
        "https://93.184.216.34/",
        "https://[2606:4700::1111]:8443/",
        "https://example.com/a@b?c=d@e",
    ] {
        assert!(guard.target(url).is_ok(), "{url}");
    }
    let long = format!("https://example.com/{}", "x".repeat(2048));
    let label = format!("https://{}.com/", "x".repeat(64));
    let name = format!("https://{}com/", "abc.".repeat(63));
    for (url, why) in [
        ("http://example.com/", PlainHttp),
        ("ftp://example.com/", Scheme),
        ("file:///etc/passwd", Scheme),
        ("gopher://127.0.0.1:6379/_", Scheme),
        ("data:text/plain,a", Scheme),
        ("unix:/run/docker.sock", Scheme),
        ("https:example.com", Form),
        ("https:/example.com", Form),
        ("https:///example.com", Form),
        ("https:////127.0.0.1/", Form),
        ("https://user:pass@example.com/", Credentials),
        ("https://user@example.com/", Credentials),
        ("https://@example.com/", Credentials),
        ("https://:@example.com/", Credentials),
        ("https://example.com@127.0.0.1/", Credentials),
        ("https://127.0.0.1:80@example.com/", Credentials),
        ("https://example.com/#top", Fragment),
        ("https://127.0.0.1#@example.com/", Fragment),
        ("https://example.com\\@127.0.0.1/", Backslash),
        ("https:\\\\127.0.0.1\\", Backslash),
        ("https://example.com:0/", Port),
        ("https://exam\nple.com/", Unprintable),
        ("https://example.com/a\r\nb", Unprintable),
        (" https://example.com/", Unprintable),
        ("https://example.com/\u{2028}", Unprintable),
        ("https://a..b/", Host),
        ("https://a*b/", Host),
        ("https://a\"b/", Host),
        ("https://a{b}/", Host),
        (&long, Long),
        (&label, Host),
        (&name, Host),
    ] {
        assert_eq!(guard.target(url), Err(why), "{url}");
    }
    for malformed in [
        "",
        "example.com/hooks",
        "/hooks",
        "//example.com/",
        "https://",
        "https://?",
        "https://:443/",
        "https://example.com:65536/",
        "https://example.com:-1/",
        "https://1.2.3.4.5/",
        "https://256.0.0.1/",
        "https://0x1ffffffff/",
        "https://08.0.0.1/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[1.2.3.4]/",
        "https://a%00b/",
        "https://a%2fb/",
        "https://a%40b/",
        "https://%C0%AE/",
        "https://xn--a/",
        "https://a\u{ad}/\u{0}",
    ] {
        assert!(guard.target(malformed).is_err(), "{malformed}");
    }
}

#[test]
fn an_address_is_found_in_every_disguise() {
    let guard = guard("");
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0x7f.0x0.0x0.0x1",
        "017700000001",
        "0177.0.0.1",
        "00000000000000177.0.0.1",
        "0177.0x0.1",
        "127.0.0.0x1",
        "0",
        "0.0.0.0",
        "%31%32%37.0.0.1",
        "127%2e0%2E0%2e1",
        "%30%78%37%66%2e%31",
        "\u{ff11}\u{ff12}\u{ff17}.0.0.1",
        "\u{ff10}\u{ff58}\u{ff17}\u{ff26}.1",
        "127\u{3002}0\u{3002}0\u{3002}1",
        "127\u{ff0e}0\u{ff0e}0\u{ff0e}1",
        "127\u{ff61}0\u{ff61}0\u{ff61}1",
        "\u{2460}\u{2461}\u{2466}.\u{24ea}.\u{24ea}.\u{2460}",
        "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
        "127.0.0.\u{ad}1",
        "127.0.0.\u{200b}1",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::FFFF:7F00:1]",
        "[0000:0000:0000:0000:0000:ffff:7f00:0001]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00::1]",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "\u{24db}ocalhost",
        "%6c%6f%63alhost",
        "\u{ff4c}\u{ff4f}\u{ff43}alhost",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "168.63.129.16",
    ] {
        for rest in ["", "/", ":8443/hooks", "?a", "/?b#"] {
            let url = format!("https://{host}{rest}");
            let refused = guard.target(&url);
            if rest == "/?b#" {
                assert!(refused.is_err(), "{url}");
            } else {
                assert_eq!(refused, Err(Refused::Forbidden(Forbidden)), "{url}");
            }
        }
    }
}

#[test]
fn what_the_settings_allow_is_allowed_in_every_spelling_and_nothing_else() {
    let guard = guard("10.1.0.0/16");
    for host in [
        "10.1.2.3",
        "167838211",
        "0xA.1.0x203",
        "[::ffff:a01:203]",
        "[64:ff9b::10.1.2.3]",
        "[2002:a01:203::]",
        "10\u{3002}1\u{3002}2\u{3002}3",
    ] {
        assert!(guard.target(&format!("https://{host}/")).is_ok(), "{host}");
    }
    for host in ["10.2.2.3", "localhost", "[::1]", "[::10.1.2.3]"] {
        assert!(guard.target(&format!("https://{host}/")).is_err(), "{host}");
    }
    for loopback in ["127.0.0.0/8", "::1/128"] {
        let allowed = self::guard(loopback);
        assert!(allowed.target("https://localhost/").is_ok(), "{loopback}");
    }
}

#[test]
fn what_is_shown_of_a_target_is_its_host() {
    let target = guard("").target("https://example.com/secret?token=secret");
    assert_eq!(format!("{target:?}"), "Ok(Target(example.com))");
}
