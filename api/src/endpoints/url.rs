//! Which URLs an endpoint can have. Names are resolved and checked at every delivery; addresses are checked here.

use std::net::{IpAddr, Ipv4Addr};

use relaypost_shared::{settings::Webhooks, ssrf};
use url::{Host, Url};

const MAX_LEN: usize = 2048;

/// Whether webhooks may be sent to this URL.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check(text: &str, settings: &Webhooks) -> Result<(), String> {
    if text.len() > MAX_LEN {
        return Err(format!("expected at most {MAX_LEN} characters"));
    }
    // The parser drops line ends and spaces at the ends; what is stored has to be what was checked.
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("spaces, line ends and control characters are not allowed".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("expected an absolute URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if settings.allow_http => {}
        "http" => return Err("plain http is not allowed here: expected https".to_owned()),
        _ => return Err("expected an http or https URL".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user names and passwords are not allowed; use `headers`".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a fragment (#…) is never sent and so not allowed".to_owned());
    }
    if url.port() == Some(0) {
        return Err("port 0 is not allowed".to_owned());
    }
    let address = match url.host() {
        None => return Err("expected a host".to_owned()),
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        // RFC 6761, section 6.3.
        Some(Host::Domain(name)) => is_localhost(name).then_some(Ipv4Addr::LOCALHOST.into()),
    };
    match address {
        Some(address) => {
            ssrf::vet(address, &settings.allow_cidrs.0).map_err(|forbidden| forbidden.to_string())
        }
        None => Ok(()),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use relaypost_shared::settings::Settings;

    use super::*;

    fn production() -> Webhooks {
        Settings::from_map(relaypost_testkit::production())
            .unwrap()
            .webhooks
    }

    #[test]
    fn only_public_https_urls_are_taken_in_production() {
        let settings = production();
        for url in [
            "https://example.com/hooks?x=1",
            "https://example.com:8443",
            "https://93.184.216.34/",
            "https://bücher.example/",
        ] {
            assert_eq!(check(url, &settings), Ok(()), "{url}");
        }
        for url in [
            "",
            "example.com/hooks",
            "/hooks",
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://",
            "https://user:pass@example.com/",
            "https://user@example.com/",
            "https://example.com/#top",
            "https://example.com:0/",
            "https://exam\nple.com/",
            " https://example.com/",
            "https://localhost/",
            "https://a.localhost./",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            assert!(check(url, &settings).is_err(), "{url}");
        }
        assert!(
            check(
                &format!("https://example.com/{}", "x".repeat(2048)),
                &settings
            )
            .is_err()
        );
    }

    #[test]
    fn this_machine_and_plain_http_are_for_development() {
        let settings = Settings::from_map(HashMap::new()).unwrap().webhooks;
        for url in [
            "http://127.0.0.1:9/",
            "http://localhost:9/",
            "http://[::1]/",
        ] {
            assert_eq!(check(url, &settings), Ok(()), "{url}");
        }
        assert!(check("http://10.0.0.1/", &settings).is_err());
    }
}
