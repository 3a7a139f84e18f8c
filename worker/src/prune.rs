//! Removes what has outlived its purpose, in bounded batches.

use relaypost_shared::{clock::Timestamp, db::Database};
use sea_orm::{ConnectionTrait, DbErr, Statement};

/// How many rows of a table one step removes at most.
pub const BATCH: u64 = 1_000;

/// What has expired at `$1`, up to `$2` rows of each table. Refresh tokens go before their sessions: removing a session with
/// thousands of them would be no bounded batch.
const EXPIRED: [&str; 6] = [
    "DELETE FROM idempotency_keys WHERE (tenant_id, key) IN \
     (SELECT tenant_id, key FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2)",
    "DELETE FROM refresh_tokens WHERE id IN (SELECT token.id FROM refresh_tokens token \
     JOIN sessions session ON session.id = token.session_id WHERE session.expires_at <= $1 LIMIT $2)",
    "DELETE FROM sessions WHERE id IN (SELECT session.id FROM sessions session WHERE session.expires_at <= $1 \
     AND NOT EXISTS (SELECT 1 FROM refresh_tokens token WHERE token.session_id = session.id) LIMIT $2)",
    "DELETE FROM one_time_tokens WHERE id IN (SELECT id FROM one_time_tokens WHERE expires_at <= $1 LIMIT $2)",
    "DELETE FROM sign_in_attempts WHERE address_hash IN \
     (SELECT address_hash FROM sign_in_attempts WHERE expires_at <= $1 LIMIT $2)",
    "DELETE FROM oauth_states WHERE id IN (SELECT id FROM oauth_states WHERE expires_at <= $1 LIMIT $2)",
];

/// Removes what has expired (idempotency keys, sessions with their refresh tokens, tokens of mails, failed sign-ins, sign-ins
/// through a provider that were never finished), and returns how many rows there were.
///
/// # Errors
/// When the database fails.
pub async fn step(db: &Database, now: Timestamp) -> Result<u64, DbErr> {
    let mut removed = 0;
    for sql in EXPIRED {
        let parameters = [now.into(), BATCH.cast_signed().into()];
        let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, parameters);
        removed += db.execute_raw(statement).await?.rows_affected();
    }
    Ok(removed)
}
