//! A delivery that somebody wants tried now.

use poem::{IntoResponse, Response};
use poem_openapi::{
    ApiResponse,
    registry::{MetaResponses, Registry},
};
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    delivery::Status,
    entities::delivery,
    ids::{DeliveryId, TenantId},
    replay::reviving,
};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _,
    sea_query::Expr,
};

use super::Delivery;
use crate::{
    Services,
    audit::{self, Action},
    auth::may::ForTenant,
    http::{ApiError, Code, Queued, document::problem},
};

/// The answer to a retry, whose refusal the document names: no other operation has it.
#[derive(Debug)]
pub(super) struct Retried(pub(super) Queued<Delivery>);

impl IntoResponse for Retried {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl ApiResponse for Retried {
    fn meta() -> MetaResponses {
        let mut meta = Queued::<Delivery>::meta();
        let refused = problem(Some(409), "It was delivered already, or discarded.");
        meta.responses.push(refused);
        meta
    }

    fn register(registry: &mut Registry) {
        Queued::<Delivery>::register(registry);
    }
}

/// Replays a dead delivery, makes a waiting one due, and leaves one alone that is due already.
///
/// # Errors
/// 404 when there is no such delivery, 409 when it was delivered or discarded.
pub(super) async fn retry(
    services: &Services,
    caller: &ForTenant,
    id: DeliveryId,
) -> Result<delivery::Model, ApiError> {
    let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
    let addressed = addressed(caller.tenant, id);
    let revived = reviving(now, None).filter(addressed.clone()).exec(&tx);
    if revived.await?.rows_affected > 0 {
        audit::record(&tx, caller, Action::Replayed, id, now).await?;
    } else if hasten(&tx, addressed, now).await? {
        audit::record(&tx, caller, Action::Retried, id, now).await?;
    }
    let row = super::find(&tx, caller.tenant, id).await?;
    tx.commit().await?;
    let refused = |code, detail: &'static str| Err(ApiError::new(code, detail));
    match row.status {
        Status::Pending => Ok(row),
        Status::Delivered => refused(Code::AlreadyDelivered, "the receiver has it already"),
        Status::Discarded => refused(
            Code::AlreadyDiscarded,
            "it was discarded, which is for good",
        ),
        // It died after the first statement here had looked.
        Status::Dead => refused(Code::Unavailable, "it has just died; try again"),
    }
}

/// Makes a delivery due that waits for a later time, and says whether there was one.
async fn hasten(
    tx: &impl ConnectionTrait,
    addressed: Condition,
    now: Timestamp,
) -> Result<bool, DbErr> {
    use delivery::Column;
    let changed = delivery::Entity::update_many()
        .col_expr(
            Column::NextAttemptAt,
            Expr::value(Option::<Timestamp>::None),
        )
        .col_expr(Column::DispatchAt, Expr::value(now))
        .filter(addressed)
        .filter(Column::Status.eq(Status::Pending))
        .filter(Column::NextAttemptAt.gt(now))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected > 0)
}

/// A tenant's delivery with this id.
pub(crate) fn addressed(tenant: TenantId, id: DeliveryId) -> Condition {
    Condition::all()
        .add(delivery::Column::TenantId.eq(tenant))
        .add(delivery::Column::Id.eq(id))
}
