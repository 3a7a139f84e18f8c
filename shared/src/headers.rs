//! The headers of a webhook that are not its endpoint's to set.

/// Whether a header is set by Relaypost, or says something about the connection or the body that only the sender of a
/// request can know (RFC 9110, sections 7.6.1 and 8; RFC 9113, section 8.2.2). Asked when an endpoint is stored and again
/// at every attempt.
pub fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 26] = [
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "date",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
    ];
    let name = name.to_ascii_lowercase();
    RESERVED.contains(&name.as_str()) || name.starts_with("webhook-") || name.starts_with("proxy-")
}
