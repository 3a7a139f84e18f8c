//! What the page with Swagger UI may do in a browser: run the scripts that it came with, and call this API.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

/// The `Content-Security-Policy` ([CSP 3](https://www.w3.org/TR/CSP3/)) of a page that carries its scripts and styles:
/// it names each by its hash, so that a script which finds its way into the page does not run.
pub(crate) fn policy(page: &str) -> String {
    format!(
        "default-src 'none'; script-src{}; style-src{}; img-src 'self' data:; font-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hashes(page, "script"),
        hashes(page, "style"),
    )
}

/// The hash of each element of this name.
fn hashes(page: &str, element: &str) -> String {
    let (opens, closes) = (format!("<{element}"), format!("</{element}"));
    let (mut rest, mut hashes) = (page, String::new());
    while let Some((_, inside)) = rest.split_once(&opens) {
        let Some((text, after)) = inside
            .split_once('>')
            .and_then(|(_, text)| text.split_once(&closes))
        else {
            break;
        };
        let hash = BASE64_STANDARD.encode(Sha256::digest(text));
        hashes.push_str(&format!(" 'sha256-{hash}'"));
        rest = after;
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_of_the_page_is_named_by_the_hash_that_browsers_compute() {
        // From the examples of CSP 3.
        let page = "<script charset=\"UTF-8\">alert('Hello, world.');</script><p><script>let a = 1 < 2;</script>";
        let policy = policy(page);
        assert!(
            policy.contains(
                "script-src 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=' 'sha256-"
            ),
            "{policy}"
        );
        assert_eq!(policy.matches("sha256-").count(), 2);
        assert!(!policy.contains("unsafe"));
    }
}
