//! Counting. The queries read what was accepted in the last five minutes, and a bounded number of rows of all else.

use chrono::TimeDelta;
use relaypost_shared::{
    clock::Timestamp,
    db::Database,
    delivery::{DeliveryKind, Status},
    ids::{EndpointId, TenantId},
    queue::Lane,
    store::read,
};
use sea_orm::DbErr;

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
        parked: read::counts::parked(db, tenant, COUNTED).await?,
        dead_letters: DeadLetterCount {
            webhook: dead(db, tenant, DeliveryKind::Webhook).await?,
            email: dead(db, tenant, DeliveryKind::Email).await?,
        },
        circuits: circuits(db, tenant).await?,
        queues,
        mail_providers,
    })
}

async fn recent(db: &Database, tenant: TenantId, now: Timestamp) -> Result<Recent, DbErr> {
    let counts = read::counts::accepted_since(db, tenant, now - LATELY).await?;
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

async fn dead(db: &Database, tenant: TenantId, kind: DeliveryKind) -> Result<i64, DbErr> {
    read::counts::dead_letters(db, tenant, kind, COUNTED).await
}

async fn circuits(db: &Database, tenant: TenantId) -> Result<Vec<EndpointCircuit>, DbErr> {
    let rows = read::circuits::not_closed(db, tenant, CIRCUITS).await?;
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
    let mut rows = read::circuits::of(&services.db, ids).await?;
    Ok(providers
        .iter()
        .map(|provider| ProviderCircuit {
            provider: provider.name(),
            circuit: rows
                .remove(&provider.circuit())
                .map_or_else(Circuit::default, Circuit::from),
        })
        .collect())
}
