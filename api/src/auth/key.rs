//! The text of an API key: `rp_<26 characters of its id>_<43 characters of secret>`.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use relaypost_shared::{clock::Timestamp, ids::KeyId};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "rp_";
const ID_LEN: usize = 26;
const SECRET_LEN: usize = 43;

/// SHA-256 of the secret part: what the database keeps. The secret is random and long, so that a slow hash would add
/// nothing.
pub(crate) type SecretHash = [u8; 32];

/// A new key, whose text is shown once.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) id: KeyId,
    pub(crate) text: String,
    pub(crate) hash: SecretHash,
}

/// A key as a client presents it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PresentedKey {
    pub(crate) id: KeyId,
    pub(crate) hash: SecretHash,
}

impl NewKey {
    /// Makes a key with 256 random bits of secret.
    pub(crate) fn generate(now: Timestamp) -> Self {
        let id = KeyId::generate(now);
        let secret = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        Self {
            id,
            text: format!("{}_{secret}", prefix_of(id)),
            hash: hash(&secret),
        }
    }
}

/// The part of a key that may be shown again: everything before the secret.
pub(crate) fn prefix_of(id: KeyId) -> String {
    id.to_string().replacen("key_", PREFIX, 1)
}

impl PresentedKey {
    /// Takes a key's text apart; nothing when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.strip_prefix(PREFIX)?.split_at_checked(ID_LEN)?;
        let secret = rest.strip_prefix('_')?;
        if secret.len() != SECRET_LEN {
            return None;
        }
        Some(Self {
            id: format!("key_{id}").parse().ok()?,
            hash: hash(secret),
        })
    }
}

/// SHA-256 of a secret.
pub(crate) fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret).into()
}

/// Whether two hashes are the same, in a time that does not tell where they differ.
pub(crate) fn same(presented: &SecretHash, stored: &[u8]) -> bool {
    presented.ct_eq(stored).into()
}

#[cfg(test)]
mod tests {
    use relaypost_shared::clock::Clock;

    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        let key = NewKey::generate(Clock::system().now());
        assert_eq!(key.text.len(), 3 + 26 + 1 + 43);
        let presented = PresentedKey::parse(&key.text).unwrap();
        assert_eq!(presented.id, key.id);
        assert!(same(&presented.hash, &key.hash));
        assert!(key.text.starts_with(&prefix_of(key.id)));
    }

    #[test]
    fn what_is_no_key_is_none() {
        let key = NewKey::generate(Clock::system().now()).text;
        for text in [
            "",
            "rp_",
            "rp_nonsense",
            &key[..72],
            &key[1..],
            &format!("{key}x"),
        ] {
            assert!(PresentedKey::parse(text).is_none(), "{text}");
        }
    }
}
