//! Where a browser goes once it is signed in: a path of this service and nowhere else.

use url::Url;

/// Longer ones are refused.
const MAX_BYTES: usize = 1024;
/// The parameter that carries the code.
const CODE: &str = "code";

/// The address of `path` under `public_url`, if it is a path of this service: it starts with one slash, and however a
/// browser reads it, it does not lead to another host.
pub(super) fn address(public_url: &str, path: &str) -> Option<Url> {
    let plain = path.len() <= MAX_BYTES
        && path.starts_with('/')
        && !path.starts_with("//")
        && !path.contains('\\')
        && !path.chars().any(|c| c.is_control() || c.is_whitespace());
    let base = Url::parse(public_url).ok()?;
    let url = base.join(path).ok().filter(|_| plain)?;
    let same_host = url.origin() == base.origin() && !url.path().starts_with("//");
    let free = url.query_pairs().all(|(name, _)| name != CODE);
    (same_host && free).then_some(url)
}

/// The same address with the code that the client exchanges.
pub(super) fn with_code(mut url: Url, code: &str) -> String {
    url.query_pairs_mut().append_pair(CODE, code);
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "https://relaypost.example.com";

    #[test]
    fn a_path_of_ours_gets_the_code() {
        let cases = [
            ("/", "/?code=c"),
            ("/app", "/app?code=c"),
            ("/app?tab=1#top", "/app?tab=1&code=c#top"),
            ("/a/../b", "/b?code=c"),
            ("/@evil.example", "/@evil.example?code=c"),
        ];
        for (path, expected) in cases {
            let url = address(HERE, path).unwrap();
            assert_eq!(with_code(url, "c"), format!("{HERE}{expected}"));
        }
    }

    #[test]
    fn nothing_leads_to_another_host() {
        for path in [
            "",
            "app",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            " /app",
            "https://evil.example/",
            "javascript:alert(1)",
            // A browser takes the dots away, and two slashes remain.
            "/..//evil.example",
            "/.//evil.example",
            "/app/..//evil.example",
            "/%2e%2e//evil.example",
            // Which of two codes would the page take?
            "/app?code=other",
        ] {
            assert_eq!(address(HERE, path), None, "{path:?}");
        }
        let long = format!("/{}", "a".repeat(MAX_BYTES));
        assert_eq!(address(HERE, &long), None);
    }
}
