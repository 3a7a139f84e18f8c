use poem::http::HeaderValue;
use proptest::{collection::vec, prelude::*};

use super::*;

const PROXY: &str = "10.0.0.1";
const CLIENT: &str = "203.0.113.7";

fn proxies(trusted: &str, header: &str) -> Proxies {
    Proxies {
        trusted: trusted.parse().unwrap(),
        header: header.parse().unwrap(),
    }
}

/// The client's address when 10.0.0.1 sends these lines of a header.
fn client(trusted: &str, header: &'static str, lines: &[&[u8]]) -> String {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(header, HeaderValue::from_bytes(line).unwrap());
    }
    let found = behind(PROXY.parse().unwrap(), &headers, &proxies(trusted, header));
    found.to_string()
}

fn x_forwarded_for(trusted: &str, list: &str) -> String {
    client(trusted, "x-forwarded-for", &[list.as_bytes()])
}

fn forwarded(list: &str) -> String {
    client("private", "forwarded", &[list.as_bytes()])
}

#[test]
fn the_first_address_from_the_right_that_is_not_believed_is_the_client() {
    for (trusted, list, expected) in [
        ("0", "1.1.1.1", PROXY),
        ("1", "1.1.1.1, 203.0.113.7", CLIENT),
        ("2", "1.1.1.1, 203.0.113.7, 10.0.0.2", CLIENT),
        ("private", "1.1.1.1, 203.0.113.7, 10.0.0.2", CLIENT),
        ("private", "1.1.1.1,203.0.113.7:4711,10.0.0.2:80", CLIENT),
        ("private", "[2001:db8::7]:4711, 10.0.0.2", "2001:db8::7"),
        ("private", "2001:db8::7", "2001:db8::7"),
        ("private", "::ffff:203.0.113.7", CLIENT),
        ("10.0.0.0/24", "203.0.113.7, ::ffff:10.0.0.9", CLIENT),
        ("10.0.0.0/24", "1.1.1.1, 10.9.0.1", "10.9.0.1"),
        // Everybody is believed: the farthest.
        ("private", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        // Fewer than were said to be there.
        ("2", "203.0.113.7", CLIENT),
        ("1", "", PROXY),
    ] {
        assert_eq!(
            x_forwarded_for(trusted, list),
            expected,
            "{trusted}: {list}"
        );
    }
    assert_eq!(client("1", "x-forwarded-for", &[]), PROXY);
    let lines: [&[u8]; 3] = [b"1.1.1.1", b"203.0.113.7,10.0.0.3", b"10.0.0.2"];
    assert_eq!(client("private", "x-forwarded-for", &lines), CLIENT);
}

#[test]
fn what_cannot_be_read_leaves_the_last_proxy_that_is_known() {
    for list in [
        "1.1.1.1, nonsense",
        "1.1.1.1, unknown",
        "1.1.1.1, _hidden",
        "1.1.1.1,",
        "010.0.0.1",
        "1.1.1",
        "1.1.1.1:",
        "1.1.1.1:x",
        "1.1.1.1:123456",
        "[1.1.1.1]",
        "[2001:db8::1",
        "[2001:db8::1]x",
        "fe80::1%eth0",
        "2001:db8::1::2",
        "１.1.1.1",
    ] {
        assert_eq!(x_forwarded_for("private", list), PROXY, "{list}");
    }
    let lines: [&[u8]; 1] = [b"203.0.113.7, \xff\xfe"];
    assert_eq!(client("private", "x-forwarded-for", &lines), PROXY);
    assert_eq!(
        x_forwarded_for("private", "1.1.1.1, unknown, 10.0.0.2"),
        "10.0.0.2"
    );
}

#[test]
fn every_form_of_forwarded_is_read() {
    for (list, expected) in [
        ("for=203.0.113.7", CLIENT),
        ("For=\"203.0.113.7:4711\"", CLIENT),
        ("for=\"[2001:db8::7]\"", "2001:db8::7"),
        ("for=\"[2001:db8::7]:4711\"; proto=https", "2001:db8::7"),
        ("for=\"203.0.113.7:_port\"", CLIENT),
        ("proto=http;by=10.0.0.9;for=203.0.113.7;host=a.test", CLIENT),
        ("for=1.1.1.1, for=203.0.113.7,for=10.0.0.2;by=_x", CLIENT),
        (
            "for=1.1.1.1,host=\"a,b;for=2.2.2.2\\\"\";for=203.0.113.7",
            CLIENT,
        ),
        ("for=\"20\\3.0.113.7\"", CLIENT),
        ("by=\"a\\\\\";for=203.0.113.7", CLIENT),
        // None is known.
        ("for=unknown", PROXY),
        ("for=_hidden", PROXY),
        ("for=203.0.113.7, for=_hidden", PROXY),
        ("proto=https", PROXY),
        ("for=1.1.1.1;for=2.2.2.2", PROXY),
        ("for=", PROXY),
        ("for=\"203.0.113.7", PROXY),
        ("for=203.0.113.7\"", PROXY),
        ("for=\"203.0.113.7\"x", PROXY),
        ("for", PROXY),
        ("", PROXY),
    ] {
        assert_eq!(forwarded(list), expected, "{list}");
    }
}

#[test]
fn a_quoted_text_that_a_client_leaves_open_swallows_nothing() {
    for forged in [
        "for=\"",
        "for=\"\\",
        "for=1.1.1.1;host=\"x",
        "\"",
        "for=\"a\\\"",
        "\\",
    ] {
        for honest in ["for=203.0.113.7", "for=\"203.0.113.7:1\";by=\"a,\\\"b\""] {
            assert_eq!(
                forwarded(&format!("{forged}, {honest}")),
                CLIENT,
                "{forged}"
            );
        }
    }
}

#[test]
fn the_header_that_does_not_count_is_not_read() {
    let mut headers = HeaderMap::new();
    headers.append(X_FORWARDED_FOR, HeaderValue::from_static(CLIENT));
    headers.append(FORWARDED, HeaderValue::from_static("for=198.51.100.1"));
    let peer = PROXY.parse().unwrap();
    for (header, expected) in [("x-forwarded-for", CLIENT), ("forwarded", "198.51.100.1")] {
        let found = behind(peer, &headers, &proxies("1", header));
        assert_eq!(found.to_string(), expected);
    }
    headers.remove(FORWARDED);
    assert_eq!(behind(peer, &headers, &proxies("1", "forwarded")), peer);
}

#[test]
fn a_peer_with_ipv4_in_ipv6_is_its_ipv4() {
    let peer = "::ffff:203.0.113.7".parse().unwrap();
    let found = behind(peer, &HeaderMap::new(), &Proxies::default());
    assert_eq!(found.to_string(), CLIENT);
    let mut headers = HeaderMap::new();
    headers.append(X_FORWARDED_FOR, HeaderValue::from_static("198.51.100.1"));
    let found = behind(
        peer,
        &headers,
        &proxies("203.0.113.0/24", "x-forwarded-for"),
    );
    assert_eq!(found.to_string(), "198.51.100.1");
}

/// Lines that a client may send: arbitrary bytes, and bytes that look like something.
fn forged() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = vec(any::<u8>(), 0..60);
    let likely =
        "(for=|\"|\\\\|,|;|=|\\[|\\]|:|1\\.1\\.1\\.1|10\\.0\\.0\\.9|::1|unknown|_x| ){0,12}";
    let line = prop_oneof![bytes, likely.prop_map(String::into_bytes)];
    let line = line.prop_filter("a header cannot carry it", |line| {
        HeaderValue::from_bytes(line).is_ok()
    });
    vec(line, 0..4)
}

/// What honest proxies add on the right, the client first, and the client's address.
fn honest() -> impl Strategy<Value = (IpAddr, usize)> {
    let client = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4((bits | 0xC000_0000).into())),
        any::<u128>().prop_map(|bits| IpAddr::V6((bits | (0x2001_u128 << 112)).into())),
    ];
    let public = |address: &IpAddr| {
        !"private"
            .parse::<TrustedProxies>()
            .unwrap()
            .believes(*address, 0)
    };
    (client.prop_filter("not a proxy", public), 0_usize..4)
}

proptest! {
    #[test]
    fn nothing_that_a_client_sends_changes_who_it_is(
        (client, inner) in honest(), forged in forged(), same_line: bool, by_count: bool, rfc: bool,
    ) {
        let mut said = vec![client.to_string()];
        said.extend((0..inner).map(|n| format!("10.0.1.{n}")));
        let mut added = said.join(", ");
        if rfc {
            let element = |address: &String| format!("by=\"_a,\\\"\";for=\"{}\"", bracketed(address));
            added = said.iter().map(element).collect::<Vec<_>>().join(",");
        }
        let mut lines = forged;
        match lines.last_mut().filter(|_| same_line) {
            Some(last) => last.extend(format!(", {added}").into_bytes()),
            None => lines.push(added.into_bytes()),
        }
        let trusted = if by_count { (inner + 1).to_string() } else { "private".to_owned() };
        let header = if rfc { "forwarded" } else { "x-forwarded-for" };
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(self::client(&trusted, header, &lines), client.to_canonical().to_string());
    }

    #[test]
    fn without_proxies_no_header_says_anything(forged in forged(), rfc: bool) {
        let header = if rfc { "forwarded" } else { "x-forwarded-for" };
        let lines: Vec<&[u8]> = forged.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(client("0", header, &lines), PROXY);
    }

    #[test]
    fn no_bytes_break_the_parsers(bytes in vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            plain(bytes);
            forwarded_for(bytes);
            let elements: Vec<&[u8]> = FromTheRight(Some(bytes)).collect();
            let joined: Vec<&[u8]> = elements.into_iter().rev().collect();
            prop_assert_eq!(joined.join(&b','), bytes);
        }
    }
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]:4711")
    } else {
        address.to_owned()
    }
}
