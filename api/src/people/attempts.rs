//! The lock against guessing passwords. An attempt is counted before its password is looked at, in one statement, so that
//! no number of sign-ins at once, in however many processes, gets more guesses than the settings allow. The last one
//! allowed locks the address at once and unlocks it again if it was right.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp, db::Database, entities::sign_in_attempt as table, settings::Auth,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, Statement,
};
use sha2::{Digest as _, Sha256};

use crate::http::{ApiError, Code};

/// Counts an attempt, unless the address is locked. A window or a lock that is over begins anew.
const COUNT: &str = "\
INSERT INTO sign_in_attempts (address_hash, failures, window_started_at, locked_until, expires_at) \
VALUES ($1, 1, $2, $3, $4) \
ON CONFLICT (address_hash) DO UPDATE SET \
failures = CASE WHEN sign_in_attempts.window_started_at <= $5 OR sign_in_attempts.locked_until IS NOT NULL \
THEN 1 ELSE sign_in_attempts.failures + 1 END, \
window_started_at = CASE WHEN sign_in_attempts.window_started_at <= $5 OR sign_in_attempts.locked_until IS NOT NULL \
THEN $2 ELSE sign_in_attempts.window_started_at END, \
locked_until = CASE WHEN (CASE WHEN sign_in_attempts.window_started_at <= $5 \
OR sign_in_attempts.locked_until IS NOT NULL THEN 1 ELSE sign_in_attempts.failures + 1 END) >= $6 \
THEN $7 ELSE NULL END, \
expires_at = $4 \
WHERE sign_in_attempts.locked_until IS NULL OR sign_in_attempts.locked_until <= $2 \
RETURNING locked_until";

/// An attempt that may be made.
#[derive(Debug)]
pub(crate) struct Attempt {
    address_hash: Vec<u8>,
    /// Until when the address is locked if this one fails.
    lock: Option<Timestamp>,
}

impl Attempt {
    /// Counts an attempt to sign in with this address, known or not.
    ///
    /// # Errors
    /// 429 while the address is locked, and when the database fails.
    pub(crate) async fn begin(
        db: &Database,
        settings: &Auth,
        address: &str,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let address_hash = hash(address);
        let lock = now + settings.lockout;
        let first = (settings.max_attempts <= 1).then_some(lock);
        let expires = now + settings.lockout.max(settings.attempt_window);
        let statement = Statement::from_sql_and_values(
            db.get_database_backend(),
            COUNT,
            [
                address_hash.clone().into(),
                now.into(),
                first.into(),
                expires.into(),
                (now - settings.attempt_window).into(),
                settings.max_attempts.cast_signed().into(),
                lock.into(),
            ],
        );
        match db.query_one_raw(statement).await? {
            Some(row) => Ok(Self {
                address_hash,
                lock: row.try_get("", "locked_until")?,
            }),
            None => Err(locked(db, address_hash, now).await?),
        }
    }

    /// Whether this attempt, having failed, leaves the address locked.
    pub(crate) fn locks(&self) -> bool {
        self.lock.is_some()
    }

    /// The attempt was right: those before it count no more. A lock that another attempt has set meanwhile stays.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn succeed(&self, tx: &impl ConnectionTrait) -> Result<(), DbErr> {
        let own = match self.lock {
            Some(lock) => table::Column::LockedUntil.eq(lock),
            None => table::Column::LockedUntil.is_null(),
        };
        table::Entity::delete_many()
            .filter(table::Column::AddressHash.eq(self.address_hash.clone()))
            .filter(own)
            .exec(tx)
            .await
            .map(|_| ())
    }
}

async fn locked(db: &Database, address_hash: Vec<u8>, now: Timestamp) -> Result<ApiError, DbErr> {
    let row = table::Entity::find_by_id(address_hash).one(db).await?;
    let until = row.and_then(|row| row.locked_until);
    let left = until.map_or(TimeDelta::zero(), |until| until - now);
    let seconds = u32::try_from(left.num_seconds()).unwrap_or(0);
    let refused = ApiError::new(
        Code::SignInLocked,
        "too many sign-ins with this address have failed; wait, or ask an administrator to unlock it",
    );
    Ok(refused.retry_after(seconds + 1))
}

/// Forgets the failed sign-ins with an address, and with them the lock. Says whether there were any.
///
/// # Errors
/// When the database fails.
pub(crate) async fn forget(tx: &impl ConnectionTrait, address: &str) -> Result<bool, DbErr> {
    let gone = table::Entity::delete_by_id(hash(address)).exec(tx).await?;
    Ok(gone.rows_affected > 0)
}

fn hash(address: &str) -> Vec<u8> {
    Sha256::digest(address).to_vec()
}

/// How the audit log names an address that is nobody's. The address itself may be a password typed in the wrong field.
pub(crate) fn label(address: &str) -> String {
    let digest = hash(address);
    let hex: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("address {hex}")
}
