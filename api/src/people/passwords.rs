//! Passwords: what is taken for one, and Argon2id (RFC 9106) with the settings' parameters.
//!
//! A hashing takes memory and time on purpose. So it runs beside the async threads, and only so many at a time: a flood of
//! sign-ins waits in line instead of taking all the memory there is.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::{Error, phc::PasswordHash},
};
use relaypost_shared::settings::Argon2 as Settings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::{ApiError, Checks, Code};

const LENGTH: std::ops::RangeInclusive<usize> = 12..=128;
const SALT_LEN: usize = 16;
/// How long a sign-in waits for its turn before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(15);

/// Hashes and checks passwords. Clones share the turns.
#[derive(Clone)]
pub(crate) struct Passwords(Arc<Inner>);

struct Inner {
    argon2: Argon2<'static>,
    turns: Arc<Semaphore>,
    hashed: AtomicU64,
    /// The memory that was filled for it, in KiB, a pass at a time.
    filled: AtomicU64,
}

/// The right to hash one password now.
#[derive(Debug)]
pub(crate) struct Turn {
    passwords: Passwords,
    /// Held until the hashing is over, even when the client has gone away.
    permit: OwnedSemaphorePermit,
}

/// What came of a check.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Whether it is the password.
    pub(crate) fits: bool,
    /// The password hashed anew, when it fits and its hash has other parameters than the settings.
    pub(crate) rehashed: Option<String>,
}

impl Passwords {
    /// With these parameters. The settings allow none that Argon2 does not take; its defaults would stand in.
    pub(crate) fn new(settings: &Settings) -> Self {
        let Settings {
            memory_kib,
            iterations,
            parallelism,
            concurrency,
        } = *settings;
        let params = Params::new(memory_kib, iterations, parallelism, None).unwrap_or_default();
        Self(Arc::new(Inner {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            turns: Arc::new(Semaphore::new(concurrency)),
            hashed: AtomicU64::new(0),
            filled: AtomicU64::new(0),
        }))
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// 503 when it does not come in time.
    pub(crate) async fn turn(&self) -> Result<Turn, ApiError> {
        let waiting = self.0.turns.clone().acquire_owned();
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(permit)) => Ok(Turn {
                passwords: self.clone(),
                permit,
            }),
            _ => Err(ApiError::new(
                Code::Unavailable,
                "too many sign-ins at once; try again",
            )),
        }
    }

    /// How often Argon2 has run in this process.
    pub(crate) fn hashed(&self) -> u64 {
        self.0.hashed.load(Ordering::Relaxed)
    }

    /// How much memory it has filled for that, in KiB, a pass at a time.
    pub(crate) fn filled(&self) -> u64 {
        self.0.filled.load(Ordering::Relaxed)
    }

    fn count(&self, params: &Params) {
        let filled = u64::from(params.m_cost()) * u64::from(params.t_cost());
        self.0.hashed.fetch_add(1, Ordering::Relaxed);
        self.0.filled.fetch_add(filled, Ordering::Relaxed);
    }

    fn hash(&self, password: &str) -> Result<String, Error> {
        self.count(self.0.argon2.params());
        let salt: [u8; SALT_LEN] = rand::random();
        let hash = self
            .0
            .argon2
            .hash_password_with_salt(password.as_bytes(), &salt)?;
        Ok(hash.to_string())
    }

    fn check(&self, password: &str, stored: Option<&str>) -> Result<Checked, Error> {
        let Some(stored) = stored else {
            // Nobody's password: the same work, so that the time tells nothing.
            self.hash(password)?;
            return Ok(Checked {
                fits: false,
                rehashed: None,
            });
        };
        let hash = PasswordHash::new(stored)?;
        self.count(&Params::try_from(&hash)?);
        let fits = match self.0.argon2.verify_password(password.as_bytes(), &hash) {
            Ok(()) => true,
            Err(Error::PasswordInvalid) => false,
            Err(error) => return Err(error),
        };
        let rehashed = if fits && !self.is_current(&hash) {
            Some(self.hash(password)?)
        } else {
            None
        };
        Ok(Checked { fits, rehashed })
    }

    fn is_current(&self, hash: &PasswordHash) -> bool {
        let current = self.0.argon2.params();
        Params::try_from(hash).is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (current.m_cost(), current.t_cost(), current.p_cost())
        })
    }
}

impl Turn {
    /// Checks a password against a stored hash. Without one it never fits and takes the work of the settings.
    ///
    /// # Errors
    /// 500 when the stored hash is damaged.
    pub(crate) async fn check(
        self,
        password: String,
        stored: Option<String>,
    ) -> Result<Checked, ApiError> {
        self.work(move |passwords| passwords.check(&password, stored.as_deref()))
            .await
    }

    /// Hashes a new password, as a PHC string.
    ///
    /// # Errors
    /// 500 when Argon2 fails.
    pub(crate) async fn hash(self, password: String) -> Result<String, ApiError> {
        self.work(move |passwords| passwords.hash(&password)).await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce(&Passwords) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Self { passwords, permit } = self;
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&passwords);
            drop(permit);
            done
        });
        let done = done
            .await
            .map_err(|error| ApiError::caused(Code::Internal, error))?;
        done.map_err(|error| ApiError::caused(Code::Internal, error))
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

/// Checks what somebody with this address wants for a new password. Length is what counts (NIST SP 800-63B).
pub(crate) fn check_new(checks: &mut Checks, path: &str, password: &str, address: &str) {
    let count = password.chars().count();
    checks.require(LENGTH.contains(&count), path, || {
        format!("expected {} to {} characters", LENGTH.start(), LENGTH.end())
    });
    checks.require(!password.eq_ignore_ascii_case(address), path, || {
        "expected something else than the address".to_owned()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(memory_kib: u32) -> Passwords {
        let settings = Settings {
            memory_kib,
            iterations: 1,
            parallelism: 1,
            concurrency: 1,
        };
        Passwords::new(&settings)
    }

    #[test]
    fn a_password_fits_its_own_hash_and_two_hashes_differ() {
        let passwords = passwords(64);
        let hash = passwords.hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert_ne!(passwords.hash("correct horse").unwrap(), hash);
        let check = |password| passwords.check(password, Some(&hash)).unwrap();
        assert!(check("correct horse").fits && check("correct horse").rehashed.is_none());
        assert!(!check("wrong horse").fits);
    }

    #[test]
    fn no_hash_costs_what_a_wrong_password_costs() {
        let passwords = passwords(64);
        let hash = passwords.hash("correct horse").unwrap();
        let cost = |stored| {
            let before = passwords.hashed();
            assert!(!passwords.check("wrong horse", stored).unwrap().fits);
            passwords.hashed() - before
        };
        assert_eq!((cost(Some(&hash)), cost(None)), (1, 1));
    }

    #[test]
    fn a_password_is_hashed_anew_when_the_parameters_have_changed() {
        let old = passwords(64).hash("correct horse").unwrap();
        let checked = passwords(128).check("correct horse", Some(&old)).unwrap();
        let rehashed = checked.rehashed.unwrap();
        assert!(rehashed.starts_with("$argon2id$v=19$m=128,"), "{rehashed}");
        let wrong = passwords(128).check("wrong horse", Some(&old)).unwrap();
        assert!(!wrong.fits && wrong.rehashed.is_none());
    }

    #[tokio::test]
    async fn only_so_many_hash_at_a_time() {
        let passwords = passwords(64);
        let first = passwords.turn().await.unwrap();
        assert_eq!(passwords.0.turns.available_permits(), 0);
        first.hash("correct horse".to_owned()).await.unwrap();
        assert_eq!(passwords.0.turns.available_permits(), 1);
    }
}
