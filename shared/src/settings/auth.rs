//! How people sign in.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    WebUrl,
    reader::Reader,
    values::{AppEnv, Whole},
};
use crate::secrets::Keyring;
use sha2::{Digest as _, Sha256};

const JWT_SECRET_MIN: usize = 32;
const KID_LEN: usize = 16;

/// How people sign in.
#[derive(Clone, Debug)]
pub struct Auth {
    /// What signs access tokens.
    pub jwt_secrets: JwtSecrets,
    /// How long an access token is good for.
    pub access_token: Duration,
    /// How long a session lasts at most, however often its refresh token is exchanged.
    pub refresh_token: Duration,
    /// How many sign-ins to one address may fail within `attempt_window`; the last of them locks it.
    pub max_attempts: u32,
    /// How long failed sign-ins count.
    pub attempt_window: Duration,
    /// How long an address stays locked.
    pub lockout: Duration,
    /// Whether nobody signs in who has not shown that the address is theirs.
    pub email_verification_required: bool,
    /// How long the link of a verification mail is good for.
    pub verification_token: Duration,
    /// How long the link of a password-reset mail is good for.
    pub reset_token: Duration,
    /// Whether `GET /auth/demo` signs anybody in. Never in production, whatever stands here.
    pub demo_mode: bool,
    /// What a password costs to check.
    pub argon2: Argon2,
    /// Where people reach this service: what links in mails begin with, without a slash at the end.
    pub public_url: WebUrl,
}

/// The parameters of Argon2id (RFC 9106, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2 {
    /// Memory of one hashing, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// How many hashings one process does at a time.
    pub concurrency: usize,
}

/// One secret of `JWT_SECRET`.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecret {
    /// Its name in the header of a token: the beginning of a digest, which tells nothing of the secret.
    pub kid: String,
    /// The secret.
    pub bytes: Vec<u8>,
}

/// The secrets of `JWT_SECRET`, newest first: the newest signs, each verifies. There is always one.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecrets(Vec<JwtSecret>);

impl Auth {
    pub(super) fn read(from: &mut Reader, env: AppEnv, keyring: &Keyring) -> Self {
        let production = env == AppEnv::Production;
        let given: Option<JwtSecrets> = from.optional("JWT_SECRET", "What signs access tokens: secrets of at least 32 bytes, newest first, with commas between them, for example the output of `openssl rand -base64 48`. Put a new one in front and nobody is signed out. Development derives one from `ENCRYPTION_KEYS`.");
        from.example("JWT_SECRET", "$(openssl rand -base64 48)");
        from.required_in_production("JWT_SECRET");
        let demo: Option<bool> = from.optional("AUTH_DEMO_MODE", "Whether `GET /auth/demo?user=admin&tenant=demo` signs anybody in. On in development unless set to `false`; refused in production.");
        from.example("AUTH_DEMO_MODE", "false");
        if production && demo == Some(true) {
            from.refuse(
                "AUTH_DEMO_MODE",
                "expected false or nothing in production: it lets anybody in",
            );
        }
        let public_url: WebUrl = from.or("PUBLIC_URL", "http://localhost:3000", "Where people reach this service: what the links in its mails begin with, and where providers lead back to.");
        from.advised_in_production(
            "PUBLIC_URL",
            "links in mails to people lead to http://localhost:3000",
        );
        let plain = production && from.is_set("PUBLIC_URL") && !public_url.is_https();
        from.advise(
            plain,
            "PUBLIC_URL",
            "not https: links with tokens in them and the cookies of sign-ins go unencrypted",
        );
        Self {
            jwt_secrets: given.unwrap_or_else(|| JwtSecrets::derived(keyring)),
            access_token: from.or::<Whole<10, 86_400>>("AUTH_ACCESS_TOKEN_SECONDS", "900", "How long an access token is good for.").seconds(),
            refresh_token: days(from.or("AUTH_REFRESH_TOKEN_DAYS", "30", "How long somebody stays signed in at most, however often the refresh token is exchanged.")),
            max_attempts: from.or::<Whole<1, 1_000>>("AUTH_LOGIN_MAX_ATTEMPTS", "5", "How many sign-ins to one address may fail within the window; the last of them locks the address.").into(),
            attempt_window: minutes(from.or("AUTH_LOGIN_ATTEMPT_WINDOW_MINUTES", "15", "How long failed sign-ins count.")),
            lockout: minutes(from.or("AUTH_LOGIN_LOCKOUT_MINUTES", "15", "How long an address stays locked, unless an administrator unlocks it.")),
            email_verification_required: from.or("AUTH_EMAIL_VERIFICATION_REQUIRED", "false", "Whether nobody signs in who has not followed the link in the verification mail."),
            verification_token: minutes(from.or("AUTH_VERIFICATION_TOKEN_MINUTES", "1440", "How long the link in a verification mail is good for.")),
            reset_token: minutes(from.or("AUTH_RESET_TOKEN_MINUTES", "60", "How long the link in a password-reset mail is good for.")),
            demo_mode: demo.unwrap_or(!production) && !production,
            argon2: Argon2::read(from, production),
            public_url,
        }
    }
}

fn days(days: Whole<1, 365>) -> Duration {
    days.seconds() * 86_400
}

fn minutes(minutes: Whole<1, 43_200>) -> Duration {
    minutes.seconds() * 60
}

impl Argon2 {
    fn read(from: &mut Reader, production: bool) -> Self {
        let argon2 = Self {
            memory_kib: from.or::<Whole<32, 4_194_304>>("ARGON2_MEMORY_KIB", "19456", "Memory of one password hashing, in KiB. Production takes no less than 19456 with two iterations or 47104 with one (OWASP).").into(),
            iterations: from.or::<Whole<1, 1_000>>("ARGON2_ITERATIONS", "2", "Passes over that memory.").into(),
            parallelism: from.or::<Whole<1, 4>>("ARGON2_PARALLELISM", "1", "Lanes of that memory.").into(),
            concurrency: from.or::<Whole<1, 1_000>>("ARGON2_CONCURRENCY", "4", "How many passwords one process hashes at a time; further sign-ins wait. This many times the memory is what a flood of sign-ins can take.").into(),
        };
        let enough = match argon2.iterations {
            1 => argon2.memory_kib >= 47_104,
            _ => argon2.memory_kib >= 19_456,
        };
        if production && !enough {
            from.refuse(
                "ARGON2_MEMORY_KIB",
                "expected at least 19456 with two or more iterations, or 47104 with one",
            );
        }
        argon2
    }
}

impl JwtSecret {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = Sha256::new()
            .chain_update("relaypost jwt kid")
            .chain_update(&bytes)
            .finalize();
        let mut kid: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        kid.truncate(KID_LEN);
        Self { kid, bytes }
    }
}

impl JwtSecrets {
    /// Derived from the keys of secrets at rest, so that every process of a development stack has the same.
    fn derived(keyring: &Keyring) -> Self {
        let keys = keyring.derive("relaypost access tokens of development");
        Self(
            keys.iter()
                .map(|key| JwtSecret::new(key.to_vec()))
                .collect(),
        )
    }

    /// The secret that signs.
    pub fn newest(&self) -> Option<&JwtSecret> {
        self.0.first()
    }

    /// Every secret, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &JwtSecret> {
        self.0.iter()
    }
}

impl FromStr for JwtSecrets {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let secrets = text.split(',').map(|part| part.trim().as_bytes().to_vec());
        let secrets: Vec<JwtSecret> = secrets.map(JwtSecret::new).collect();
        if secrets.iter().any(|one| one.bytes.len() < JWT_SECRET_MIN) {
            return Err(
                "expected secrets of at least 32 bytes each, newest first, with commas between them: the output of `openssl rand -base64 48`",
            );
        }
        Ok(Self(secrets))
    }
}

impl fmt::Debug for JwtSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<&str> = self.iter().map(|secret| secret.kid.as_str()).collect();
        write!(
            f,
            "[{} secrets, newest first: {}]",
            kids.len(),
            kids.join(", ")
        )
    }
}

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[secret {}]", self.kid)
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::{Invalid, Settings};

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Invalid> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_map(owned.collect())
    }

    fn problems(pairs: &[(&str, &str)]) -> String {
        read(pairs).map_or_else(|Invalid(problems)| problems.join("\n"), |_| String::new())
    }

    #[test]
    fn a_jwt_secret_has_32_bytes_and_is_never_shown() {
        let (old, new) = ("o".repeat(32), "n".repeat(40));
        let settings = read(&[("JWT_SECRET", &format!("{new}, {old}"))]).unwrap();
        let secrets = &settings.auth.jwt_secrets;
        assert_eq!(secrets.newest().unwrap().bytes, new.as_bytes());
        assert_eq!(secrets.iter().count(), 2);
        let shown = format!("{settings:?}");
        assert!(!shown.contains(&new) && !shown.contains(&old), "{shown}");
        for wrong in ["short".to_owned(), format!("{new},"), "n".repeat(31)] {
            let said = problems(&[("JWT_SECRET", &wrong)]);
            assert!(
                said.starts_with("JWT_SECRET: ") && !said.contains(&wrong),
                "{said}"
            );
        }
    }

    #[test]
    fn processes_in_development_agree_on_a_secret_and_another_key_makes_another() {
        let kid = |pairs: &[(&str, &str)]| {
            let settings = read(pairs).unwrap();
            settings.auth.jwt_secrets.newest().unwrap().kid.clone()
        };
        assert_eq!(kid(&[]), kid(&[]));
        assert_ne!(kid(&[]), kid(&[("ENCRYPTION_KEYS", &"0f".repeat(32))]));
    }

    #[test]
    fn production_wants_a_secret_and_strong_hashing_and_takes_no_demo() {
        let production = [("APP_ENV", "production")];
        assert!(problems(&production).contains("JWT_SECRET: "));
        for (name, value) in [
            ("AUTH_DEMO_MODE", "true"),
            ("ARGON2_MEMORY_KIB", "1024"),
            ("ARGON2_ITERATIONS", "1"),
        ] {
            let said = problems(&[("APP_ENV", "production"), (name, value)]);
            let variable = if name == "ARGON2_ITERATIONS" {
                "ARGON2_MEMORY_KIB"
            } else {
                name
            };
            assert!(said.contains(&format!("{variable}: ")), "{said}");
            assert!(!problems(&[(name, value)]).contains(name));
        }
        assert!(read(&[]).unwrap().auth.demo_mode);
        assert!(!read(&[("AUTH_DEMO_MODE", "false")]).unwrap().auth.demo_mode);
    }

    #[test]
    fn the_public_address_has_no_slash_at_its_end() {
        let url = |text| read(&[("PUBLIC_URL", text)]).map(|one| one.auth.public_url.at(""));
        assert_eq!(url("https://a.example/").unwrap(), "https://a.example");
        assert_eq!(url("https://a.example/r/").unwrap(), "https://a.example/r");
        for wrong in [
            "a.example",
            "ftp://a.example",
            "https://a.example/?a",
            "https://me:x@a.example",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
