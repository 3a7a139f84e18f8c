//! Which settings are secrets, and which secrets everybody could guess.

use sha2::{Digest as _, Sha256};

/// Words that stand where a secret should have been put in. Random text does not have them by chance.
const WORDS: [&str; 12] = [
    "changeme",
    "change-me",
    "change_me",
    "secret",
    "password",
    "example",
    "placeholder",
    "insecure",
    "passw0rd",
    "letmein",
    "qwerty",
    "relaypost",
];
/// The same, unless all of it is hexadecimal: one in 17,000 random keys of 64 digits has this.
const NUMBERS: &str = "12345";
/// Secrets that stand in public: in our document's examples, in the Standard Webhooks specification.
const PUBLISHED: [&str; 2] = [
    "7YtK3hJp0sVd9wQx1zRb5nMf2cGa8eLu4iTo6yWqXvE",
    "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
];
/// Random text of 24 characters or more has more than this many different ones, even when it is hexadecimal.
const FEW: usize = 7;
/// So many equal steps in a row do not come about by chance.
const RUN: usize = 8;

/// Whether a setting of this name is a secret: a key, a secret, a password or a token. A number of them, or a time, is not.
pub(super) fn is_secret(name: &str) -> bool {
    let words = ["KEY", "KEYS", "SECRET", "SECRETS", "PASSWORD", "TOKEN"];
    // What is measured stands last: `…_TTL`, `…_MINUTES`.
    let last = name.rsplit('_').next().unwrap_or_default();
    words.contains(&last)
        || name
            .split('_')
            .any(|part| ["SECRET", "SECRETS"].contains(&part))
}

/// Whether a setting of this name may come from a file (`NAME_FILE`): a secret, or an address with a password in it.
pub(super) fn may_be_in_a_file(name: &str) -> bool {
    is_secret(name)
        || [
            "DATABASE_URL",
            "REDIS_URL",
            "RATE_LIMIT_REDIS_URL",
            "EMAIL_PROVIDERS",
        ]
        .contains(&name)
}

/// Why a secret, or one of several with commas between them, is one that can be guessed, if it is.
pub(super) fn weakness(text: &str) -> Option<&'static str> {
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).find_map(of_one)
}

fn of_one(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    if PUBLISHED.iter().any(|published| text.contains(published)) {
        return Some("this one is published as an example");
    }
    let numbered = lower.contains(NUMBERS) && !bytes.iter().all(u8::is_ascii_hexdigit);
    if numbered || WORDS.iter().any(|word| lower.contains(word)) {
        return Some("this one is made of words that stand in examples");
    }
    let mut different = bytes.to_vec();
    different.sort_unstable();
    different.dedup();
    if different.len() <= FEW || repeats(bytes) {
        return Some("this one repeats itself");
    }
    if counts(bytes) || hex(bytes).is_some_and(|bytes| repeats(&bytes) || counts(&bytes)) {
        return Some("this one only counts up or down");
    }
    let of_development: [u8; 32] = Sha256::digest("relaypost key of development").into();
    (hex(bytes)? == of_development).then_some("this one is the key of development")
}

/// Whether it is one piece over and over.
fn repeats(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 2).any(|period| bytes.iter().zip(&bytes[period..]).all(|(a, b)| a == b))
}

/// Whether it counts: `abcdefghi…`, `9876…`, `00 02 04 …`, in one long run or most of the time. `9` and `a` are neighbours,
/// as they are in hexadecimal.
fn counts(bytes: &[u8]) -> bool {
    let value = |byte: u8| match byte {
        b'a'..=b'z' => byte - b'a' + b'9' + 1,
        byte => byte,
    };
    let steps = bytes
        .windows(2)
        .map(|pair| value(pair[1]).wrapping_sub(value(pair[0])));
    let steps: Vec<u8> = steps.collect();
    [1, 2, u8::MAX, u8::MAX - 1].iter().any(|step| {
        let same = steps.iter().filter(|one| *one == step).count();
        let run = steps
            .windows(RUN)
            .any(|run| run.iter().all(|one| one == step));
        run || 2 * same > steps.len()
    })
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_guessed_is_weak() {
        let counting: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        let down: String = (0..32).rev().map(|byte| format!("{byte:02x}")).collect();
        let twos: String = (0..32).map(|byte| format!("{:02x}", 2 * byte)).collect();
        let development: [u8; 32] = Sha256::digest("relaypost key of development").into();
        let development: String = development.map(|byte| format!("{byte:02x}")).concat();
        let random = "9f2c7d81e05b4a36c8e1d7f04b92a65338cd0f71be469a25d71c83f5e20b9a64";
        for weak in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_owned(),
            "0f".repeat(32),
            "0123456789abcdef".repeat(4),
            "abcdefghijklmnopqrstuvwxyz".to_owned(),
            "ZYXWVUTSRQPONMLKJIHGFEDCBA".to_owned(),
            "rp_root_test_key_0123456789abcdef".to_owned(),
            "12345-8fK2mQ9xWv4Lz7Tn".to_owned(),
            "ChangeMe-8fK2mQ9xWv4Lz7Tn".to_owned(),
            "my-Password-8fK2mQ9xWv4Lz7Tn".to_owned(),
            counting,
            down,
            twos,
            development,
            format!("{random},{}", "00".repeat(32)),
            format!("rp_{}", PUBLISHED[0]),
            format!("whsec_{}", PUBLISHED[1]),
        ] {
            assert!(weakness(&weak).is_some(), "{weak}");
        }
        assert_eq!(weakness(random), None);
        assert_eq!(weakness(&random.replace("4a36c", "12345")), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_random_is_not_weak(bytes in any::<[u8; 32]>()) {
            // The generator likes zeros; what it draws goes through a hash to be random.
            let bytes: [u8; 32] = Sha256::digest(bytes).into();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(weakness(&hex), None);
            prop_assert_eq!(weakness(&hex[..48]), None);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            weakness(&text);
        }
    }

    #[test]
    fn what_looks_like_a_secret_in_our_own_documents_is_weak() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let docs = std::fs::read_dir(root.join("docs")).unwrap();
        let docs = docs.map(|entry| entry.unwrap().path());
        let others = ["README.md", "api/openapi.json"].map(|name| root.join(name));
        for file in docs.chain(others).filter(|path| path.is_file()) {
            let text = std::fs::read_to_string(&file).unwrap();
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c)));
            for word in words.filter(|word| word.len() >= 24) {
                let has = |kind: fn(&char) -> bool| word.chars().filter(kind).count() >= 3;
                let mixed = has(char::is_ascii_digit)
                    && has(char::is_ascii_uppercase)
                    && has(char::is_ascii_lowercase);
                let keylike = mixed || word.bytes().all(|byte| byte.is_ascii_hexdigit());
                assert!(
                    !keylike || weakness(word).is_some(),
                    "{}: {word} could be taken for a secret: add it to PUBLISHED",
                    file.display()
                );
            }
        }
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "ROOT_API_KEY",
            "ENCRYPTION_KEYS",
            "JWT_SECRET",
            "HEALTH_KEY",
            "OAUTH_GITHUB_CLIENT_SECRET",
            "JWT_SECRET_PREVIOUS",
            "SMTP_PASSWORD",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "LOG",
            "IDEMPOTENCY_TTL",
            "AUTH_ACCESS_TOKEN_MINUTES",
            "AUTH_PASSWORD_MEMORY_KIB",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
