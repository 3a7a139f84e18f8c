//! Signatures of the Standard Webhooks specification, version 1
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use relaypost_shared::{clock::Timestamp, ids::MessageId};
use ring::signature::Ed25519KeyPair;
use sha2::Sha256;

/// What stands before the base64 of a secret that both sides have.
const SYMMETRIC: &str = "whsec_";
/// What stands before the base64 of an ed25519 key: its seed, or seed and public key.
const PRIVATE: &str = "whsk_";
const KEY_LEN: usize = 32;

/// The stored text is no signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signing secret: expected whsec_ or whsk_ and base64")]
pub struct InvalidSecret;

/// The value of `webhook-signature`: one signature for each secret, with spaces between them, over
/// `{id}.{seconds}.{payload}`. A `whsec_` secret makes a `v1,` HMAC, a `whsk_` key a `v1a,` ed25519 signature.
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
        let (version, signature) = if let Some(encoded) = secret.strip_prefix(SYMMETRIC) {
            ("v1", symmetric(encoded, head.as_bytes(), payload)?)
        } else if let Some(encoded) = secret.strip_prefix(PRIVATE) {
            ("v1a", asymmetric(encoded, head.as_bytes(), payload)?)
        } else {
            return Err(InvalidSecret);
        };
        let separator = if header.is_empty() { "" } else { " " };
        let _ = write!(header, "{separator}{version},{signature}");
    }
    Ok(header)
}

fn symmetric(encoded: &str, head: &[u8], payload: &[u8]) -> Result<String, InvalidSecret> {
    let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| InvalidSecret)?;
    mac.update(head);
    mac.update(payload);
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}

fn asymmetric(encoded: &str, head: &[u8], payload: &[u8]) -> Result<String, InvalidSecret> {
    let key = STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
    let pair = match key.split_at_checked(KEY_LEN) {
        Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
        Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
        None => return Err(InvalidSecret),
    };
    let signature = pair
        .map_err(|_| InvalidSecret)?
        .sign(&[head, payload].concat());
    Ok(STANDARD.encode(signature))
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

    /// Made with another implementation (pyca/cryptography, which is OpenSSL's) from the seed 0, 1, 2, … 31.
    const PAIR: &str = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
    const SEED: &str = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn another_implementation_of_ed25519_signs_alike() {
        let at = Timestamp::from_timestamp(1_769_851_800, 0).unwrap();
        let id: MessageId = "msg_01kg9pa7m0e61922ahgxeqgsws".parse().unwrap();
        for key in [PAIR, SEED] {
            let header = signatures([key], id, at, br#"{"a": 1}"#).unwrap();
            assert_eq!(
                header,
                "v1a,IY5xs1HP2aJc/SYM8YQg6JoLvUc/wCWUbcXq6G2b4Z4ZLLzwJq3QdWEu5UHMLhB/WE/WurYGU8k+Wb6X2soBAA=="
            );
        }
    }

    #[test]
    fn keys_of_both_kinds_sign_side_by_side() {
        let at = Clock::system().now();
        let id = MessageId::generate(at);
        let header = signatures([PAIR, SECRET], id, at, b"{}").unwrap();
        let apart = [PAIR, SECRET].map(|key| signatures([key], id, at, b"{}").unwrap());
        assert_eq!(header, apart.join(" "));
        assert!(apart[0].starts_with("v1a,") && apart[1].starts_with("v1,"));
    }

    #[test]
    fn a_text_that_is_no_secret_is_refused() {
        let at = Clock::system().now();
        let id = MessageId::generate(at);
        let mixed_up = PAIR.replace("whsk_AAEC", "whsk_BBEC");
        let texts = [
            "",
            "plain",
            "whsec_***",
            "whsk_***",
            "whsk_AAEC",
            "whpk_AAEC",
        ];
        for text in texts.into_iter().chain([mixed_up.as_str()]) {
            assert_eq!(signatures([text], id, at, b""), Err(InvalidSecret));
        }
    }
}
