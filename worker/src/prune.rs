//! Removes what has outlived its purpose, in bounded batches.

use relaypost_shared::clock::Timestamp;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};

/// How many rows one step removes at most.
pub const BATCH: u64 = 1_000;

/// Removes idempotency keys that have expired, and returns how many there were.
///
/// # Errors
/// When the database fails.
pub async fn step(db: &DatabaseConnection, now: Timestamp) -> Result<u64, DbErr> {
    let statement = Statement::from_sql_and_values(
        db.get_database_backend(),
        "DELETE FROM idempotency_keys WHERE (tenant_id, key) IN \
         (SELECT tenant_id, key FROM idempotency_keys WHERE expires_at <= $1 LIMIT $2)",
        [now.into(), BATCH.cast_signed().into()],
    );
    Ok(db.execute_raw(statement).await?.rows_affected())
}
