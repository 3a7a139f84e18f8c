//! Tells a tenant's operators when its dead-letter queue has reached the threshold, once until it has shrunk to less
//! than half of it.

use relaypost_shared::{
    clock::Timestamp,
    db::{Database, begin_write},
    delivery::OperatorEvent,
    entities::tenant,
    events::{self, Event},
    ids::TenantId,
    queue::Queue,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbErr, EntityTrait as _, QueryFilter as _, Statement,
    TryGetable as _, sea_query::Expr,
};
use serde_json::json;

use crate::dispatch::{self, Dispatched, StepError};

/// Reads at most as many dead letters of a tenant as the threshold has, however many there are.
const CROSSED: &str = "SELECT id, dead FROM (SELECT t.id AS id, t.dlq_warned_at AS warned_at, \
     (SELECT COUNT(*) FROM (SELECT 1 FROM deliveries d WHERE d.tenant_id = t.id AND d.dead_at IS NOT NULL LIMIT $1) few) \
     AS dead FROM tenants t) counted \
     WHERE (warned_at IS NULL AND dead >= $1) OR (warned_at IS NOT NULL AND dead * 2 < $1)";

/// Looks at every tenant's dead-letter queue, and returns how many tenants were told.
///
/// # Errors
/// When the database or the queue cannot be reached; whoever was not told then is told later.
pub async fn step(
    db: &Database,
    queue: &Queue,
    threshold: u32,
    now: Timestamp,
) -> Result<u64, StepError> {
    let statement = Statement::from_sql_and_values(
        db.get_database_backend(),
        CROSSED,
        [i64::from(threshold).into()],
    );
    let mut told = 0;
    for row in db.query_all_raw(statement).await? {
        let tenant = TenantId::try_get(&row, "", "id").map_err(DbErr::from)?;
        let dead: i64 = row.try_get("", "dead")?;
        if dead < i64::from(threshold) {
            mark(db, tenant, None).await?;
            continue;
        }
        let tx = begin_write(db).await?;
        if mark(&tx, tenant, Some(now)).await? {
            let event = Event {
                tenant,
                what: OperatorEvent::DlqThreshold,
                data: json!({"threshold": threshold}),
            };
            let jobs = events::tell(&tx, vec![event], now).await?;
            let jobs: Vec<Dispatched> = jobs.into_iter().map(Dispatched::live_webhook).collect();
            tx.commit().await?;
            dispatch::push(db, queue, &jobs, now).await?;
            told += 1;
        }
    }
    Ok(told)
}

/// Notes that a tenant was told, or need not be told any more; says whether that was news.
async fn mark(
    db: &impl sea_orm::ConnectionTrait,
    tenant: TenantId,
    at: Option<Timestamp>,
) -> Result<bool, DbErr> {
    use tenant::Column;
    let known = if at.is_some() {
        Column::DlqWarnedAt.is_null()
    } else {
        Column::DlqWarnedAt.is_not_null()
    };
    let changed = tenant::Entity::update_many()
        .col_expr(Column::DlqWarnedAt, Expr::value(at))
        .filter(Column::Id.eq(tenant))
        .filter(known)
        .exec(db)
        .await?;
    Ok(changed.rows_affected > 0)
}
