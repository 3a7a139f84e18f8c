//! What can be done with a dead letter. Each is one transaction with its entry in the audit log.

use relaypost_shared::{
    db::begin_write,
    delivery::DeliveryKind,
    ids::DeliveryId,
    store::{self, Delivery},
};

use super::not_found;
use crate::{
    Services,
    audit::{self, Action},
    auth::may::ForTenant,
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
) -> Result<Delivery, ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let replayed = store::retry::dead_letter(&tx, caller.tenant, kind, id, now).await?;
    let replayed = replayed.ok_or_else(not_found)?;
    if replayed.change.is_some() {
        audit::record(&tx, caller, Action::Replayed, id, now).await?;
    }
    tx.commit().await?;
    Ok(replayed.delivery)
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
    if !store::discard::dead_letter(&tx, caller.tenant, kind, id).await? {
        return Err(not_found());
    }
    audit::record(&tx, caller, Action::Discarded, id, now).await?;
    tx.commit().await?;
    Ok(())
}
