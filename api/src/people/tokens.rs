//! Random tokens that are given out once and kept as a hash: refresh tokens, and those in mails.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// A new token. Its text is given out once.
#[derive(Debug)]
pub(crate) struct NewToken {
    /// The prefix and 43 characters: 256 random bits.
    pub(crate) text: String,
    /// What the database keeps.
    pub(crate) hash: Vec<u8>,
}

impl NewToken {
    /// Makes a token that begins with `prefix`.
    pub(crate) fn generate(prefix: &str) -> Self {
        let secret = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let text = format!("{prefix}{secret}");
        Self {
            hash: hash(&text),
            text,
        }
    }
}

/// SHA-256 of a token. It is random and long, so that a slow hash would add nothing; and because it is found by its
/// hash, the time that finding takes tells nothing of the token.
pub(crate) fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}
