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
    store::threshold::{Crossed, crossed},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, sea_query::Expr,
};
use serde_json::json;

use crate::dispatch::{self, Dispatched, StepError};

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
    let mut told = 0;
    for (tenant, crossed) in crossed(db, threshold).await? {
        if crossed == Crossed::Shrunk {
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
    db: &impl ConnectionTrait,
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
