//! Values as `check-config` shows them: no secret, and of an address only where it leads.

use url::Url;

use super::secret::is_secret;

/// The schemes of addresses that settings have. What else has a `://` may have a secret anywhere.
const SCHEMES: [&str; 10] = [
    "postgres",
    "postgresql",
    "sqlite",
    "redis",
    "redis+unix",
    "unix",
    "smtp",
    "file",
    "http",
    "https",
];
/// Stands for what is not shown.
const HIDDEN: &str = "[not shown]";

/// A value that can be shown.
pub(super) fn shown(name: &str, value: &str) -> String {
    if is_secret(name) {
        return "[secret]".to_owned();
    }
    if !value.contains("://") {
        // One line stays one line, and a terminal is not told anything.
        let plain = |c: char| match c {
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        };
        return value.chars().map(plain).collect();
    }
    let shown: Vec<String> = addresses(value).into_iter().map(address).collect();
    shown.join(",")
}

/// Parts at the commas behind which an address begins: a password may have commas too.
fn addresses(value: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (comma, _) in value.match_indices(',') {
        let scheme = value[comma + 1..].trim_start().split("://").next();
        let begins = scheme.is_some_and(|scheme| {
            let mut letters = scheme.bytes();
            value[comma + 1..].contains("://")
                && letters
                    .next()
                    .is_some_and(|byte| byte.is_ascii_alphabetic())
                && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
        if begins {
            parts.push(&value[start..comma]);
            start = comma + 1;
        }
    }
    parts.push(&value[start..]);
    parts
}

/// Scheme, host, port and path of an address. One that cannot be taken apart for sure is not shown.
fn address(text: &str) -> String {
    let Ok(url) = Url::parse(text.trim()) else {
        return HIDDEN.to_owned();
    };
    if !SCHEMES.contains(&url.scheme()) {
        return HIDDEN.to_owned();
    }
    // An `@` behind the host may be the one before it, when a password has a `/`, `?` or `#` as it is.
    let behind = [url.path(), url.query().unwrap_or_default()];
    if url.fragment().is_some() || behind.iter().any(|part| part.contains('@')) {
        return HIDDEN.to_owned();
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    format!(
        "{}://{host}{}{}",
        url.scheme(),
        port.unwrap_or_default(),
        url.path()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_show_where_they_lead_and_nothing_else() {
        for (value, expected) in [
            (
                "postgres://me:hunter2@db:5433/name?password=hunter2",
                "postgres://db:5433/name",
            ),
            ("redis://:hunter2@cache/0", "redis://cache/0"),
            (
                "sqlite://data/relaypost.db?mode=rwc",
                "sqlite://data/relaypost.db",
            ),
            ("file:///var/mail", "file:///var/mail"),
            (
                "smtp://a:hunt,er2@one:25?tls=none, resend://hunter2",
                "smtp://one:25,[not shown]",
            ),
            ("postgres://me:12,34@db/name", "postgres://db/name"),
            ("postgres://me:12/34@db/name", HIDDEN),
            ("postgres://me:12?34@db/name", HIDDEN),
            ("postgres://me:12#34@db/name", HIDDEN),
            ("postgres://me:hunter2/x@db/name", HIDDEN),
            ("a\nb\u{1b}[0m", "a\\nb\\u{1b}[0m"),
        ] {
            assert_eq!(shown("DATABASE_URL", value), expected, "{value}");
        }
        assert_eq!(shown("ROOT_API_KEY", "hunter2"), "[secret]");
    }
}
