//! Finds the tenants whose dead-letter queue has reached the size at which their operators hear of it, or has shrunk again.
//!
//! Guarantee: of each tenant at most as many dead letters are read as the threshold has, however many there are. Nothing is
//! written, and no transition of a delivery is made here.

use sea_orm::{ConnectionTrait, DbErr, Statement, TryGetable as _};

use crate::ids::TenantId;

const CROSSED: &str = "SELECT id, dead FROM (SELECT t.id AS id, t.dlq_warned_at AS warned_at, \
     (SELECT COUNT(*) FROM (SELECT 1 FROM deliveries d WHERE d.tenant_id = t.id AND d.dead_at IS NOT NULL LIMIT $1) few) \
     AS dead FROM tenants t) counted \
     WHERE (warned_at IS NULL AND dead >= $1) OR (warned_at IS NOT NULL AND dead * 2 < $1)";

/// How a tenant's dead-letter queue has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossed {
    /// It has reached the threshold, and its operators have not been told.
    Reached,
    /// It has shrunk to less than half of the threshold since they were told.
    Shrunk,
}

/// Finds the tenants whose operators are to be told, and those of whom it is to be forgotten that they were.
///
/// # Errors
/// When the database fails.
pub async fn crossed(
    db: &impl ConnectionTrait,
    threshold: u32,
) -> Result<Vec<(TenantId, Crossed)>, DbErr> {
    let threshold = i64::from(threshold);
    let backend = db.get_database_backend();
    let statement = Statement::from_sql_and_values(backend, CROSSED, [threshold.into()]);
    let rows = db.query_all_raw(statement).await?;
    let crossed = rows.iter().map(|row| {
        let tenant = TenantId::try_get(row, "", "id")?;
        let dead: i64 = row.try_get("", "dead")?;
        let crossed = match dead < threshold {
            true => Crossed::Shrunk,
            false => Crossed::Reached,
        };
        Ok((tenant, crossed))
    });
    crossed.collect()
}
