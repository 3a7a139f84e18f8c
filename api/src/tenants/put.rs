//! `PUT`: the tenant with an external id is there afterwards, and is as the body says.
//!
//! Exactly one is made, however many ask at once: the unique index has the last word, and whoever comes second finds the
//! tenant of the first. A tenant that is as the body says already is not written, and nothing is noted in the audit log.

use relaypost_shared::{clock::Timestamp, db::begin_write, entities::tenant};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _, Set};

use super::{
    body::{NewTenant, Tenant},
    insert,
};
use crate::{
    Services,
    audit::{self, Action, By},
    http::{ApiError, Code, Created, Reply, Upserted},
};

/// How often it begins anew because the tenant came or lost its external id in the meantime.
const TRIES: usize = 10;

/// Creates or changes the tenant with the external id of `new`, which has one.
///
/// # Errors
/// When the database fails, or others change the tenant's external id again and again.
pub(super) async fn put(
    services: &Services,
    operator: &By,
    new: NewTenant,
) -> Result<Upserted<Tenant>, ApiError> {
    let now = services.clock.now();
    let wanted = new.into_row(now);
    let external_id = wanted.external_id.clone().unwrap_or_default();
    for _ in 0..TRIES {
        let found = tenant::Entity::by_external_id(&external_id).one(&services.db);
        let answer = match found.await? {
            None => create(services, operator, &wanted, now).await?,
            Some(found) if is_as(&found, &wanted) => {
                return Ok(Upserted::Found(Reply::of(&found.into())?));
            }
            Some(_) => change(services, operator, &wanted, &external_id, now).await?,
        };
        if let Some(answer) = answer {
            return Ok(answer);
        }
    }
    Err(ApiError::new(
        Code::Unavailable,
        "others change the external_id of this tenant at the same time",
    ))
}

fn is_as(found: &tenant::Model, wanted: &tenant::Model) -> bool {
    (&found.name, found.email_on_uncertain) == (&wanted.name, wanted.email_on_uncertain)
}

/// Nothing when somebody else has created it in the meantime.
async fn create(
    services: &Services,
    operator: &By,
    wanted: &tenant::Model,
    now: Timestamp,
) -> Result<Option<Upserted<Tenant>>, ApiError> {
    let tx = begin_write(&services.db).await?;
    if !insert(&tx, wanted.clone()).await? {
        tx.rollback().await?;
        return Ok(None);
    }
    let (action, id) = (Action::TenantCreated, wanted.id);
    audit::record_by(&tx, operator, Some(id), action, id, now).await?;
    tx.commit().await?;
    let created = Created::of(&wanted.clone().into())?;
    Ok(Some(Upserted::Created(created)))
}

/// Nothing when no tenant has the external id any more, or somebody else has changed it to what is wanted.
async fn change(
    services: &Services,
    operator: &By,
    wanted: &tenant::Model,
    external_id: &str,
    now: Timestamp,
) -> Result<Option<Upserted<Tenant>>, ApiError> {
    let tx = begin_write(&services.db).await?;
    let held = tenant::Entity::by_external_id(external_id).lock_exclusive();
    let before = held.one(&tx).await?;
    let Some(before) = before.filter(|before| !is_as(before, wanted)) else {
        tx.rollback().await?;
        return Ok(None);
    };
    let changes = tenant::ActiveModel {
        name: Set(wanted.name.clone()),
        email_on_uncertain: Set(wanted.email_on_uncertain),
        ..Default::default()
    };
    tenant::Entity::update_many()
        .set(changes)
        .filter(tenant::Column::Id.eq(before.id))
        .exec(&tx)
        .await?;
    let (action, id) = (Action::TenantChanged, before.id);
    audit::record_by(&tx, operator, Some(id), action, id, now).await?;
    tx.commit().await?;
    let changed = tenant::Model {
        name: wanted.name.clone(),
        email_on_uncertain: wanted.email_on_uncertain,
        ..before
    };
    Ok(Some(Upserted::Found(Reply::of(&changed.into())?)))
}
