//! Addresses in arbitrary spellings, and arbitrary text where a URL should be. `PROPTEST_CASES` says how many.

use std::net::{IpAddr, Ipv4Addr};

use proptest::{prelude::*, sample::select};
use url::{Host, Url};

use crate::ssrf::guard;

/// Some of all addresses, and more of those where it matters.
fn address() -> impl Strategy<Value = Ipv4Addr> {
    let special = select(vec![
        [0, 0, 0, 0],
        [10, 0, 0, 0],
        [10, 1, 0, 0],
        [100, 64, 0, 0],
        [127, 0, 0, 0],
        [169, 254, 169, 254],
        [168, 63, 129, 16],
        [172, 16, 0, 0],
        [192, 168, 0, 0],
        [198, 18, 0, 0],
        [224, 0, 0, 0],
        [255, 255, 255, 255],
    ]);
    let near = (special, any::<u32>(), 0..=32_u32).prop_map(|(net, noise, bits)| {
        let mask = 1_u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1) as u32;
        Ipv4Addr::from_bits(Ipv4Addr::from(net).to_bits() ^ (noise & mask))
    });
    prop_oneof![any::<u32>().prop_map(Ipv4Addr::from_bits), near]
}

/// How one number of an address is written.
#[derive(Clone, Copy, Debug)]
enum Radix {
    Decimal,
    Octal(usize),
    Hex(bool, usize),
}

fn radix() -> impl Strategy<Value = Radix> {
    prop_oneof![
        Just(Radix::Decimal),
        (0..12_usize).prop_map(Radix::Octal),
        (any::<bool>(), 0..12_usize).prop_map(|(upper, zeros)| Radix::Hex(upper, zeros)),
    ]
}

fn number(value: u32, radix: Radix) -> String {
    let zeros = |count| "0".repeat(count);
    match radix {
        Radix::Decimal => value.to_string(),
        Radix::Octal(more) => format!("0{}{value:o}", zeros(more)),
        Radix::Hex(true, more) => format!("0X{}{value:X}", zeros(more)),
        Radix::Hex(false, more) => format!("0x{}{value:x}", zeros(more)),
    }
}

/// An address as one to four numbers; the last one holds what is left.
fn numbers(address: Ipv4Addr, radices: &[Radix]) -> String {
    let bits = address.to_bits();
    let last = radices.len() - 1;
    let parts = radices.iter().enumerate().map(|(index, radix)| {
        let value = if index < last {
            u32::from(address.octets()[index])
        } else {
            bits & u32::MAX.checked_shr(8 * index as u32).unwrap_or(0)
        };
        number(value, *radix)
    });
    parts.collect::<Vec<_>>().join(".")
}

/// One character in another form that the standard takes for the same.
fn disguise(plain: char, how: u8) -> String {
    let wide = u32::from(plain) - 0x20 + 0xff00;
    let wide = char::from_u32(wide).unwrap().to_string();
    match (plain, how % 6) {
        ('.', 0) => "\u{3002}".to_owned(),
        ('.', 1) => "\u{ff61}".to_owned(),
        (_, 0 | 1) => wide,
        (_, 2) => format!("%{:02x}", u32::from(plain)),
        (_, 3) => wide.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        _ => plain.to_string(),
    }
}

fn disguised(plain: &str, how: &[u8]) -> String {
    let how = how.iter().cycle();
    plain
        .chars()
        .zip(how)
        .map(|(plain, how)| disguise(plain, *how))
        .collect()
}

fn in_ipv6(address: Ipv4Addr, form: u8, tail: u64) -> String {
    let bits = address.to_bits();
    let (high, low) = (bits >> 16, bits & 0xffff);
    match form % 6 {
        0 => format!("[::ffff:{address}]"),
        1 => format!("[::FFFF:{high:X}:{low:x}]"),
        2 => format!("[0:0:0:0:0:ffff:{high:04x}:{low:04x}]"),
        3 => format!("[64:ff9b::{address}]"),
        4 => format!("[64:ff9b:0:0:0:0:{high:x}:{low:x}]"),
        _ => {
            let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (tail >> shift) & 0xffff);
            // A tail of its own kind is judged besides.
            let b = if b == 0x5efe { 0 } else { b };
            format!("[2002:{high:x}:{low:x}:0:{a:x}:{b:x}:{c:x}:{d:x}]")
        }
    }
}

proptest! {
    #[test]
    fn every_spelling_of_an_address_has_the_verdict_of_the_address(
        address in address(),
        radices in prop::collection::vec(radix(), 1..=4),
        how in prop::collection::vec(any::<u8>(), 1..20),
        dot in prop::bool::ANY,
    ) {
        let plain = numbers(address, &radices);
        let spelling = disguised(&plain, &how);
        let url = format!("https://{spelling}{}/", if dot { "." } else { "" });
        for allowed in ["", "10.1.0.0/16,169.254.0.0/16"] {
            let guard = guard(allowed);
            let verdict = guard.address(address.into());
            let target = guard.target(&url);
            prop_assert_eq!(target.is_ok(), verdict.is_ok(), "{} is {}", &url, address);
            if let Ok(target) = target {
                prop_assert_eq!(target.host().to_owned(), Host::<String>::Ipv4(address));
            }
        }
    }

    #[test]
    fn an_address_in_ipv6_has_the_verdict_of_the_address(
        address in address(), form in any::<u8>(), tail in any::<u64>(),
    ) {
        let url = format!("https://{}/", in_ipv6(address, form, tail));
        for allowed in ["", "10.1.0.0/16", "::/0"] {
            let guard = guard(allowed);
            let verdict = guard.address(address.into());
            prop_assert_eq!(guard.target(&url).is_ok(), verdict.is_ok(), "{} is {}", &url, address);
        }
    }

    #[test]
    fn whatever_is_taken_means_the_same_when_it_is_read_again(
        scheme in select(vec!["https://", "HTTPS://", "https:", "https:/\\", "http://", ""]),
        text in prop_oneof![
            any::<String>(),
            "[-a-z0-9.:@/?#%_\\\\\\[\\]\u{ff10}-\u{ff5a}\u{3002}]{0,40}",
            "(%[0-9a-fA-F]{2}|[0-9a-fxX.]){1,20}",
        ],
    ) {
        let guard = guard("");
        if let Ok(target) = guard.target(&format!("{scheme}{text}")) {
            let url = target.url();
            let again = Url::parse(url.as_str());
            prop_assert_eq!(again.as_ref(), Ok(url));
            prop_assert!(url.as_str().len() > 2048 || guard.target(url.as_str()) == Ok(target.clone()));
            prop_assert!(url.scheme() == "https" && url.username().is_empty() && url.password().is_none());
            prop_assert!(!url.as_str().contains(|c: char| c.is_whitespace() || c.is_control()));
            match target.host() {
                Host::Ipv4(address) => prop_assert!(guard.address(address.into()).is_ok()),
                Host::Ipv6(address) => prop_assert!(guard.address(address.into()).is_ok()),
                // It goes to the resolver, whose answers are vetted, and not past it.
                Host::Domain(name) => prop_assert!(name.parse::<IpAddr>().is_err(), "{}", name),
            }
        }
    }

    #[test]
    fn no_address_makes_the_guard_panic(bits in any::<u128>()) {
        let address = IpAddr::V6(bits.into());
        let verdict = guard("").address(address);
        // What is allowed by no setting is allowed by none that says nothing about it.
        prop_assert!(verdict.is_err() || guard("10.0.0.0/8").address(address).is_ok());
    }
}
