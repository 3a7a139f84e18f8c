//! `PUT`: the endpoint with an external id is there afterwards, and is as the body says.
//!
//! Exactly one is made, however many ask at once: the unique index has the last word, and whoever comes second finds the
//! endpoint of the first. An endpoint that is as the body says already is not written, and nothing is noted in the audit
//! log.

use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    entities::endpoint,
    ids::EndpointId,
    queue::Limits,
    secrets::{Keyring, SealError},
};
use sea_orm::{ActiveValue::NotSet, ColumnTrait as _, QueryFilter as _, Set};

use super::{
    body::{CreatedEndpoint, Endpoint, NewEndpoint},
    change, held, insert, limit, reachable, show,
};
use crate::{
    Services,
    auth::may::ForTenant,
    http::{ApiError, Code, Created, Reply, Upserted},
};

/// How often it begins anew because the endpoint came or went in the meantime.
const TRIES: usize = 10;

type Answer = Upserted<CreatedEndpoint, Endpoint>;

/// Creates or changes the endpoint with the external id of `new`, which has one.
///
/// # Errors
/// 422 when its URL leads into networks that webhooks may not reach; when the database fails, or others create and delete
/// it again and again.
pub(super) async fn put(
    services: &Services,
    caller: &ForTenant,
    new: NewEndpoint,
) -> Result<Answer, ApiError> {
    let now = services.clock.now();
    let wanted = new.into_row(caller.tenant, now);
    let keys = &services.settings.keyring;
    let mut is_checked = false;
    for _ in 0..TRIES {
        let found = endpoint::Entity::of_tenant(caller.tenant)
            .filter(endpoint::Column::ExternalId.eq(wanted.external_id.as_deref()))
            .one(&services.db)
            .await?;
        if let Some(found) = found.as_ref().filter(|found| is_as(found, &wanted, keys)) {
            let shown = show(services, found.clone(), true).await?;
            return Ok(Upserted::Found(Reply::of(&shown)?));
        }
        if !is_checked {
            // Before the transaction, which nothing may hold up.
            reachable(services, &wanted.url).await?;
            is_checked = true;
        }
        let answer = match found {
            None => create(services, caller, &wanted).await?,
            Some(found) => replace(services, caller, found.id, &wanted, now).await?,
        };
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
    Err(ApiError::new(
        Code::Unavailable,
        "others create and delete this endpoint at the same time",
    ))
}

/// Whether an endpoint is as it is wanted, apart from what no body says.
fn is_as(found: &endpoint::Model, wanted: &endpoint::Model, keys: &Keyring) -> bool {
    let Ok(headers) = found.open_headers(keys) else {
        return false;
    };
    let opened = endpoint::Model {
        headers,
        ..found.clone()
    };
    let wanted = endpoint::Model {
        id: found.id,
        status: found.status,
        disabled_reason: found.disabled_reason.clone(),
        created_at: found.created_at,
        updated_at: found.updated_at,
        ..wanted.clone()
    };
    opened == wanted
}

/// Nothing when somebody else has created it in the meantime.
async fn create(
    services: &Services,
    caller: &ForTenant,
    wanted: &endpoint::Model,
) -> Result<Option<Answer>, ApiError> {
    let tx = begin_write(&services.db).await?;
    let keys = &services.settings.keyring;
    let Some(created) = insert(&tx, keys, caller, wanted.clone()).await? else {
        tx.rollback().await?;
        return Ok(None);
    };
    tx.commit().await?;
    Ok(Some(Upserted::Created(Created::of(&created)?)))
}

/// Nothing when somebody else has deleted it in the meantime, or changed it to what is wanted.
async fn replace(
    services: &Services,
    caller: &ForTenant,
    id: EndpointId,
    wanted: &endpoint::Model,
    now: Timestamp,
) -> Result<Option<Answer>, ApiError> {
    let keys = &services.settings.keyring;
    let changes = changes(wanted.clone(), id, keys, now)?;
    let tx = begin_write(&services.db).await?;
    let before = held(&tx, caller.tenant, id, now).await?;
    let Some(before) = before.filter(|before| !is_as(before, wanted, keys)) else {
        tx.rollback().await?;
        return Ok(None);
    };
    let limits = Limits::of(&before);
    let row = change(&tx, keys, caller, before, changes, now).await?;
    tx.commit().await?;
    limit(services, limits, &row);
    let shown = show(services, row, true).await?;
    Ok(Some(Upserted::Found(Reply::of(&shown)?)))
}

/// Every column that a body decides on. The external id is the same, unless somebody changes it at this moment: that change
/// then comes after this one.
fn changes(
    mut wanted: endpoint::Model,
    id: EndpointId,
    keys: &Keyring,
    now: Timestamp,
) -> Result<endpoint::ActiveModel, SealError> {
    let headers = std::mem::take(&mut wanted.headers);
    Ok(endpoint::ActiveModel {
        id: NotSet,
        tenant_id: NotSet,
        external_id: NotSet,
        headers: Set(endpoint::Model::seal_headers(keys, id, headers)?),
        status: NotSet,
        disabled_reason: NotSet,
        created_at: NotSet,
        updated_at: Set(now),
        deleted_at: NotSet,
        url: Set(wanted.url),
        description: Set(wanted.description),
        event_types: Set(wanted.event_types),
        channels: Set(wanted.channels),
        timeout_ms: Set(wanted.timeout_ms),
        retry_schedule: Set(wanted.retry_schedule),
        rate_limit_per_s: Set(wanted.rate_limit_per_s),
        max_in_flight: Set(wanted.max_in_flight),
        ordering: Set(wanted.ordering),
        signing: Set(wanted.signing),
    })
}
