//! What can be done with a dead letter. Each is one conditional statement with its entry in the audit log, in one
//! transaction.

use relaypost_shared::{
    db::begin_write,
    delivery::{DeliveryKind, Status},
    entities::delivery,
    ids::DeliveryId,
    replay::{discarding, reviving},
};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};

use super::not_found;
use crate::{
    Services,
    audit::{self, Action},
    auth::may::ForTenant,
    deliveries,
    http::ApiError,
};

/// Replays a dead letter and returns the delivery as it stands then. One that waits because it was just replayed is
/// left alone and returned as well: who presses twice sends once.
///
/// # Errors
/// 404 when there is no such dead letter.
pub(super) async fn replay(
    services: &Services,
    caller: &ForTenant,
    kind: DeliveryKind,
    id: DeliveryId,
) -> Result<delivery::Model, ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let addressed = deliveries::addressed(caller.tenant, id).add(delivery::Column::Kind.eq(kind));
    let revived = reviving(now, None).filter(addressed.clone()).exec(&tx);
    if revived.await?.rows_affected > 0 {
        audit::record(&tx, caller, Action::Replayed, id, now).await?;
    }
    let replayed = delivery::Entity::find()
        .filter(addressed)
        .filter(delivery::Column::Status.eq(Status::Pending))
        .filter(delivery::Column::ReplayedAt.is_not_null())
        .one(&tx)
        .await?;
    tx.commit().await?;
    replayed.ok_or_else(not_found)
}

/// Discards a dead letter: it leaves the queue for good and is not delivered.
///
/// # Errors
/// 404 when there is no such dead letter.
pub(super) async fn discard(
    services: &Services,
    caller: &ForTenant,
    kind: DeliveryKind,
    id: DeliveryId,
) -> Result<(), ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let discarded = discarding()
        .filter(deliveries::addressed(caller.tenant, id))
        .filter(delivery::Column::Kind.eq(kind))
        .exec(&tx)
        .await?;
    if discarded.rows_affected == 0 {
        return Err(not_found());
    }
    audit::record(&tx, caller, Action::Discarded, id, now).await?;
    tx.commit().await?;
    Ok(())
}
