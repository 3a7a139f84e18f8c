//! Signatures of the Standard Webhooks specification, version 1
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use relaypost_shared::{clock::Timestamp, ids::MessageId};
use sha2::Sha256;

/// What stands before the base64 of a symmetric secret.
const PREFIX: &str = "whsec_";

/// The stored text is no signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signing secret: expected whsec_ and base64")]
pub struct InvalidSecret;

/// The value of `webhook-signature`: one `v1,` signature for each secret, with spaces between them, over
/// `{id}.{seconds}.{payload}`.
///
/// # Errors
/// [`InvalidSecret`] when one of the secrets is none.
pub fn signatures<'a>(
    secrets: impl IntoIterator<Item = &'a str>,
    id: MessageId,
    at: Timestamp,
    payload: &[u8],
) -> Result<String, InvalidSecret> {
    let head = format!("{id}.{}.", at.timestamp());
    let mut header = String::new();
    for secret in secrets {
        let encoded = secret.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| InvalidSecret)?;
        mac.update(head.as_bytes());
        mac.update(payload);
        let separator = if header.is_empty() { "" } else { " " };
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let _ = write!(header, "{separator}v1,{signature}");
    }
    Ok(header)
}

#[cfg(test)]
mod tests {
    use relaypost_shared::clock::Clock;
    use standardwebhooks::Webhook;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn the_reference_implementation_signs_alike() {
        let at = Clock::system().now();
        let id = MessageId::generate(at);
        let payload = br#"{"a": 1}"#;
        let expected = Webhook::new(SECRET)
            .unwrap()
            .sign(&id.to_string(), at.timestamp(), payload)
            .unwrap();
        assert_eq!(signatures([SECRET], id, at, payload), Ok(expected));
    }

    #[test]
    fn every_valid_secret_signs() {
        let at = Clock::system().now();
        let header = signatures([SECRET, OTHER], MessageId::generate(at), at, b"{}").unwrap();
        assert_eq!(
            header
                .split(' ')
                .filter(|part| part.starts_with("v1,"))
                .count(),
            2
        );
    }

    #[test]
    fn a_text_that_is_no_secret_is_refused() {
        let at = Clock::system().now();
        let id = MessageId::generate(at);
        for text in ["", "plain", "whsec_***"] {
            assert_eq!(signatures([text], id, at, b""), Err(InvalidSecret));
        }
    }
}
