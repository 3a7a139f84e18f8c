//! A delivery that somebody wants tried now.

use relaypost_shared::{
    db::begin_write,
    delivery::Status,
    ids::DeliveryId,
    store::{self, retry::Change},
};

use super::not_found;
use crate::{
    Services,
    audit::{self, Action},
    auth::may::ForTenant,
    http::{ApiError, Code},
};

/// Replays a dead delivery, makes a waiting one due, and leaves one alone that is due already.
///
/// # Errors
/// 404 when there is no such delivery, 409 when it was delivered or discarded.
pub(super) async fn retry(
    services: &Services,
    caller: &ForTenant,
    id: DeliveryId,
) -> Result<store::Delivery, ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let retried = store::retry::delivery(&tx, caller.tenant, id, now).await?;
    let retried = retried.ok_or_else(not_found)?;
    let action = retried.change.map(|change| match change {
        Change::Replayed => Action::Replayed,
        Change::MadeDue => Action::Retried,
    });
    if let Some(action) = action {
        audit::record(&tx, caller, action, id, now).await?;
    }
    tx.commit().await?;
    let refused = |code, detail: &'static str| Err(ApiError::new(code, detail));
    match retried.delivery.status {
        Status::Pending => Ok(retried.delivery),
        Status::Delivered => refused(Code::AlreadyDelivered, "the receiver has it already"),
        Status::Discarded => refused(
            Code::AlreadyDiscarded,
            "it was discarded, which is for good",
        ),
        // It died after the first statement of the store had looked.
        Status::Dead => refused(Code::Unavailable, "it has just died; try again"),
    }
}
