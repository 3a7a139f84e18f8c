//! Headers that tell browsers how little they may do with an answer.

use poem::http::{HeaderMap, HeaderName, HeaderValue, header};

/// What holds for answers that are data: nothing in them is ever shown, run, framed or kept.
const PROTECTION: [(HeaderName, HeaderValue); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// [RFC 6797](https://www.rfc-editor.org/rfc/rfc6797): for a year, no browser calls this host without TLS. Browsers
/// heed it only when it came through TLS, which a proxy adds.
const TRANSPORT_SECURITY: HeaderValue =
    HeaderValue::from_static("max-age=31536000; includeSubDomains");

/// Adds the protection that an answer does not bring itself; `hsts` is for production.
pub fn protect(headers: &mut HeaderMap, hsts: bool) {
    for (name, value) in PROTECTION {
        headers.entry(name).or_insert(value);
    }
    if hsts {
        headers
            .entry(header::STRICT_TRANSPORT_SECURITY)
            .or_insert(TRANSPORT_SECURITY);
    }
}
