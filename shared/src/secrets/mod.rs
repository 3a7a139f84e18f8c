//! Secrets at rest: sealed with AES-256-GCM (NIST SP 800-38D) under the keys of `ENCRYPTION_KEYS`, each bound to the
//! column and the row that it stands in, so that a sealed text that is moved elsewhere does not open.
//!
//! A sealed text is `sealed1.<key id>.<base64url of nonce, ciphertext and tag>`. Every place has a key of its own, derived
//! with HKDF-SHA256 (RFC 5869) from the master key: random nonces of 96 bits are then far from running out, however much
//! is sealed.

mod places;

use std::{fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Prk, Salt},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What every sealed text begins with.
pub const SEALED: &str = "sealed1.";
const KEY_LEN: usize = 32;
const KEY_ID_LEN: usize = 8;

/// Where a secret stands. It does not open anywhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Table and column: `endpoint_secrets.secret`.
    pub column: &'static str,
    /// The row.
    pub row: Uuid,
    /// Which of the secrets of that column; empty where there is one.
    pub part: &'a str,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        // The id has a fixed length and no column has a NUL, so no two places have the same bytes.
        [
            self.column.as_bytes(),
            &[0],
            self.row.as_bytes(),
            self.part.as_bytes(),
        ]
        .concat()
    }
}

/// A sealed text cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key that sealed it is not there.
    #[error(
        "it was sealed under the key {0}, which is not in ENCRYPTION_KEYS: put that key back, at any place in the list"
    )]
    UnknownKey(String),
    /// It was changed, cut off, or moved from another place.
    #[error("the sealed text is damaged, or belongs to another row")]
    Damaged,
    /// It is in clear text.
    #[error("it is not sealed")]
    NotSealed,
}

/// The randomness of the system failed: nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret could not be sealed")]
pub struct SealError;

/// One master key of 32 bytes.
#[derive(Clone)]
struct MasterKey {
    id: String,
    prk: Prk,
}

impl MasterKey {
    fn new(bytes: &[u8; KEY_LEN]) -> Self {
        let digest = Sha256::new()
            .chain_update("relaypost key id")
            .chain_update(bytes)
            .finalize();
        let mut id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        id.truncate(KEY_ID_LEN);
        Self {
            id,
            prk: Salt::new(HKDF_SHA256, b"relaypost secrets at rest").extract(bytes),
        }
    }

    /// The key of one place.
    fn of(&self, place: &[u8]) -> Option<LessSafeKey> {
        let info = [place];
        let okm = self.prk.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

/// The keys of `ENCRYPTION_KEYS`, newest first: the newest seals, each opens. There is always one. Clones share them.
#[derive(Clone)]
pub struct Keyring(Arc<[MasterKey]>);

impl Keyring {
    /// The key of development, which everybody knows.
    pub fn of_development() -> Self {
        let bytes: [u8; KEY_LEN] = Sha256::digest("relaypost key of development").into();
        Self([MasterKey::new(&bytes)].into())
    }

    /// Seals a secret for its place.
    ///
    /// # Errors
    /// [`SealError`] when the system gives no randomness.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<String, SealError> {
        let place = place.bytes();
        let master = self.0.first().ok_or(SealError)?;
        let key = master.of(&place).ok_or(SealError)?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = secret.to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(&place),
            &mut sealed,
        )
        .map_err(|_| SealError)?;
        let encoded = BASE64_URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Ok(format!("{SEALED}{}.{encoded}", master.id))
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// [`OpenError`] says what is the matter; it never holds any of the secret.
    pub fn open(&self, place: Place<'_>, sealed: &str) -> Result<Vec<u8>, OpenError> {
        let rest = sealed.strip_prefix(SEALED).ok_or(OpenError::NotSealed)?;
        let (id, encoded) = rest.split_once('.').ok_or(OpenError::Damaged)?;
        let master = self.0.iter().find(|key| key.id == id);
        let master = master.ok_or_else(|| OpenError::UnknownKey(id.to_owned()))?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).ok();
        let mut bytes = bytes
            .filter(|bytes| bytes.len() >= NONCE_LEN)
            .ok_or(OpenError::Damaged)?;
        let mut sealed = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| OpenError::Damaged)?;
        let place = place.bytes();
        let key = master.of(&place).ok_or(OpenError::Damaged)?;
        let length = key
            .open_in_place(nonce, Aad::from(&place), &mut sealed)
            .map_err(|_| OpenError::Damaged)?
            .len();
        sealed.truncate(length);
        Ok(sealed)
    }

    /// Opens what was sealed for this place and is a text.
    ///
    /// # Errors
    /// As [`Self::open`]; [`OpenError::Damaged`] when it is no text.
    pub fn open_text(&self, place: Place<'_>, sealed: &str) -> Result<String, OpenError> {
        String::from_utf8(self.open(place, sealed)?).map_err(|_| OpenError::Damaged)
    }

    /// A key of 32 bytes for another purpose from each of the keys, newest first. No place has the same: a purpose has no
    /// NUL, and each place has one.
    pub fn derive(&self, purpose: &'static str) -> Vec<[u8; KEY_LEN]> {
        let info = [purpose.as_bytes()];
        let keys = self.0.iter().filter_map(|master| {
            let mut key = [0; KEY_LEN];
            let okm = master.prk.expand(&info, HKDF_SHA256).ok()?;
            okm.fill(&mut key).ok().map(|()| key)
        });
        keys.collect()
    }

    /// What a text begins with that the newest key has sealed.
    pub fn newest_prefix(&self) -> String {
        let id = self.0.first().map_or("", |key| key.id.as_str());
        format!("{SEALED}{id}.")
    }

    /// The ids of the keys, newest first: eight characters that stand in each text that the key has sealed.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }
}

impl Default for Keyring {
    fn default() -> Self {
        Self::of_development()
    }
}

impl FromStr for Keyring {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let keys: Option<Vec<MasterKey>> = text
            .split(',')
            .map(|part| master_key(part.trim()))
            .collect();
        keys.map(|keys| Self(keys.into())).ok_or(
            "expected keys of 32 bytes as 64 hexadecimal digits, newest first, with commas between them",
        )
    }
}

fn master_key(hex: &str) -> Option<MasterKey> {
    if hex.len() != 2 * KEY_LEN || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; KEY_LEN];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(MasterKey::new(&bytes))
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.ids().collect();
        write!(f, "[{} keys, newest first: {}]", ids.len(), ids.join(", "))
    }
}

impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        self.ids().eq(other.ids())
    }
}

impl Eq for Keyring {}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(texts: &[&str]) -> Keyring {
        let keys: Vec<String> = texts.iter().map(|text| text.repeat(32)).collect();
        keys.join(",").parse().unwrap()
    }

    fn place(row: u128, part: &str) -> Place<'_> {
        Place {
            column: "endpoint_secrets.secret",
            row: Uuid::from_u128(row),
            part,
        }
    }

    #[test]
    fn a_secret_opens_in_its_own_place_only() {
        let keys = keys(&["0f"]);
        let sealed = keys.seal(place(1, ""), b"whsec_x").unwrap();
        assert!(!sealed.contains("whsec"));
        assert_eq!(keys.open(place(1, ""), &sealed).unwrap(), b"whsec_x");
        for elsewhere in [place(2, ""), place(1, "x")] {
            assert_eq!(keys.open(elsewhere, &sealed), Err(OpenError::Damaged));
        }
        assert_ne!(keys.seal(place(1, ""), b"whsec_x").unwrap(), sealed);
    }

    #[test]
    fn an_old_key_opens_and_a_lost_one_is_named() {
        let old = keys(&["0f"]);
        let sealed = old.seal(place(1, ""), b"secret").unwrap();
        let both = keys(&["aa", "0f"]);
        assert_eq!(both.open(place(1, ""), &sealed).unwrap(), b"secret");
        assert!(!sealed.starts_with(&both.newest_prefix()));
        let lost = keys(&["aa"]).open(place(1, ""), &sealed);
        let id = old.ids().next().unwrap().to_owned();
        assert_eq!(lost, Err(OpenError::UnknownKey(id)));
    }

    #[test]
    fn what_was_changed_does_not_open_and_does_not_panic() {
        let keys = keys(&["0f"]);
        let sealed = keys.seal(place(1, ""), b"secret").unwrap();
        assert_eq!(
            keys.open(place(1, ""), "whsec_x"),
            Err(OpenError::NotSealed)
        );
        for cut in SEALED.len()..sealed.len() {
            assert!(keys.open(place(1, ""), &sealed[..cut]).is_err(), "{cut}");
        }
        for at in SEALED.len()..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keys.open(place(1, ""), &changed).is_err(), "{changed}");
        }
    }

    #[test]
    fn a_sealed_text_opens_as_a_text_and_nothing_else_does() {
        let keys = keys(&["0f"]);
        let open = |stored: &str| keys.open_text(place(1, ""), stored);
        let sealed = keys.seal(place(1, ""), b"whsec_x").unwrap();
        assert_eq!(open(&sealed).unwrap(), "whsec_x");
        let bytes = keys.seal(place(1, ""), &[0xff]).unwrap();
        assert_eq!(open(&bytes), Err(OpenError::Damaged));
        assert_eq!(open("whsec_x"), Err(OpenError::NotSealed));
    }

    #[test]
    fn keys_are_64_hexadecimal_digits_each() {
        assert_eq!(keys(&["0f", "aa"]).ids().count(), 2);
        for text in [
            "",
            "0f",
            &"0g".repeat(32),
            &"é".repeat(32),
            &format!("{},", "0f".repeat(32)),
        ] {
            assert!(text.parse::<Keyring>().is_err(), "{text}");
        }
    }
}
