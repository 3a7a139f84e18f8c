//! Counting. The queries read what was accepted in the last five minutes, and a bounded number of rows of all else.

use std::collections::HashMap;

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::Database,
    delivery::{CircuitState, DeliveryKind, EndpointStatus, Status},
    entities::{circuit, delivery, endpoint},
    ids::{DeliveryId, EndpointId, TenantId},
    queue::Lane,
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait as _, DbErr, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, QueryTrait as _, Statement,
};
use uuid::Uuid;

use super::body::{DeadLetterCount, EndpointCircuit, ProviderCircuit, Queues, Recent, Stats};
use crate::{Services, auth::may::ForTenant, endpoints::Circuit, http::ApiError};

/// Further than this nobody counts: the figure then says "many".
const COUNTED: i64 = 10_000;
/// How many circuits are shown.
const CIRCUITS: u64 = 100;
/// How far back "lately" reaches.
const LATELY: TimeDelta = TimeDelta::minutes(5);

pub(super) async fn stats(services: &Services, caller: &ForTenant) -> Result<Stats, ApiError> {
    let (db, now, tenant) = (&services.db, services.clock.now(), caller.tenant);
    // What other tenants do shows in them.
    let (queues, mail_providers) = if caller.sees_service {
        (queues(services).await, Some(providers(services).await?))
    } else {
        (None, None)
    };
    Ok(Stats {
        last_5_minutes: recent(db, tenant, now).await?,
        parked: parked(db, tenant).await?,
        dead_letters: DeadLetterCount {
            webhook: dead(db, tenant, DeliveryKind::Webhook).await?,
            email: dead(db, tenant, DeliveryKind::Email).await?,
        },
        circuits: circuits(db, tenant).await?,
        queues,
        mail_providers,
    })
}

/// By the time in their ids, which the index of the tenant's deliveries is ordered by.
async fn recent(db: &Database, tenant: TenantId, now: Timestamp) -> Result<Recent, DbErr> {
    use delivery::Column;
    let counts: Vec<(Status, i64)> = delivery::Entity::of_tenant(tenant)
        .filter(Column::Id.gte(DeliveryId::floor(now - LATELY)))
        .select_only()
        .column(Column::Status)
        .column_as(Column::Id.count(), "count")
        .group_by(Column::Status)
        .into_tuple()
        .all(db)
        .await?;
    let of = |status| {
        let count = counts.iter().find(|(of, _)| *of == status);
        count.map_or(0, |(_, count)| *count)
    };
    Ok(Recent {
        accepted: counts.iter().map(|(_, count)| count).sum(),
        pending: of(Status::Pending),
        delivered: of(Status::Delivered),
        dead: of(Status::Dead),
    })
}

async fn parked(db: &Database, tenant: TenantId) -> Result<i64, DbErr> {
    let sql = "SELECT COUNT(*) AS count FROM (SELECT d.id FROM circuits c \
         JOIN deliveries d ON d.parked_for = c.id WHERE c.tenant_id = $1 LIMIT $2) parked";
    count(db, sql, [tenant.into(), COUNTED.into()]).await
}

async fn dead(db: &Database, tenant: TenantId, kind: DeliveryKind) -> Result<i64, DbErr> {
    let sql = "SELECT COUNT(*) AS count FROM (SELECT id FROM deliveries \
         WHERE tenant_id = $1 AND dead_at IS NOT NULL AND kind = $2 LIMIT $3) dead";
    let params = [tenant.into(), kind.as_str().into(), COUNTED.into()];
    count(db, sql, params).await
}

async fn count<const N: usize>(
    db: &Database,
    sql: &str,
    params: [sea_orm::Value; N],
) -> Result<i64, DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, params);
    let row = db.query_one_raw(statement).await?;
    row.map_or(Ok(0), |row| row.try_get("", "count"))
}

async fn circuits(db: &Database, tenant: TenantId) -> Result<Vec<EndpointCircuit>, DbErr> {
    use circuit::Column;
    // Nothing is ever sent through the circuit of one that is deleted or disabled.
    let endpoints = endpoint::Entity::of_tenant(tenant)
        .filter(endpoint::Column::Status.ne(EndpointStatus::Disabled))
        .select_only()
        .column(endpoint::Column::Id)
        .into_query();
    let rows = circuit::Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::State.ne(CircuitState::Closed))
        .filter(Column::Id.in_subquery(endpoints))
        .order_by_desc(Column::OpenedAt)
        .limit(CIRCUITS)
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| EndpointCircuit {
            endpoint_id: EndpointId::from_uuid(row.id).into(),
            circuit: row.into(),
        })
        .collect())
}

async fn queues(services: &Services) -> Option<Queues> {
    let depth = async |lane| services.queue.depth(lane).await.ok();
    Some(Queues {
        webhooks: depth(Lane::Webhooks).await?,
        emails: depth(Lane::Emails).await?,
        bulk: depth(Lane::Bulk).await?,
    })
}

async fn providers(services: &Services) -> Result<Vec<ProviderCircuit>, DbErr> {
    let providers = &services.settings.emails.providers;
    let ids = providers.iter().map(|provider| provider.circuit());
    let rows = circuit::Entity::find()
        .filter(circuit::Column::Id.is_in(ids))
        .all(&services.db)
        .await?;
    let mut rows: HashMap<Uuid, Circuit> =
        rows.into_iter().map(|row| (row.id, row.into())).collect();
    Ok(providers
        .iter()
        .map(|provider| ProviderCircuit {
            provider: provider.name(),
            circuit: rows.remove(&provider.circuit()).unwrap_or_default(),
        })
        .collect())
}
