//! What waits for the time that its sender named: it can still be cancelled, or be given another time.

use chrono::TimeDelta;
use poem::{IntoResponse, Response};
use poem_openapi::{
    ApiResponse,
    registry::{MetaResponses, Registry},
    types::Type,
};
use relaypost_shared::{
    clock::Timestamp,
    delivery::{Reason, Status},
    entities::delivery::{Column, Entity, Model},
    ids::TenantId,
};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, EntityTrait as _, QueryFilter as _,
    sea_query::{Expr, SimpleExpr},
};

use super::load_all;
use crate::http::{ApiError, Code, Reply, document::problem};

/// A worker whose clock is ahead of this one may already be sending what is due within this time.
const MARGIN: TimeDelta = TimeDelta::seconds(1);

/// The answer to a change of what waits, whose refusal the document names.
#[derive(Debug)]
pub(crate) struct Changed<T>(pub(crate) Reply<T>);

impl<T: Send> IntoResponse for Changed<T> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl<T: Type> ApiResponse for Changed<T> {
    fn meta() -> MetaResponses {
        let mut meta = Reply::<T>::meta();
        let refused = problem(Some(409), "It is too late: it is due, or was sent.");
        meta.responses.push(refused);
        meta
    }

    fn register(registry: &mut Registry) {
        Reply::<T>::register(registry);
    }
}

/// What was changed, and how the deliveries stand now.
#[derive(Debug)]
pub(crate) struct Now {
    /// Whether anything was changed.
    pub(crate) changed: bool,
    /// The deliveries.
    pub(crate) deliveries: Vec<Model>,
}

/// The deliveries among `of` that wait for their first attempt, which no worker can have begun.
fn untouched(tenant: TenantId, of: SimpleExpr, now: Timestamp) -> Condition {
    Condition::all()
        .add(Column::TenantId.eq(tenant))
        .add(of)
        .add(Column::Status.eq(Status::Pending))
        .add(Column::AttemptCount.eq(0))
        .add(Column::NextAttemptAt.gt(now + MARGIN))
        // A worker whose clock is further ahead is handing a mail over already.
        .add(Expr::cust("sending_token IS NULL"))
}

/// Cancels the deliveries of one message or email, which `due` says when to send: all of them or none. Cancelled ones stay
/// as they are.
///
/// # Errors
/// 409 when one of them is due or was sent; the caller's transaction is to be rolled back then.
pub(crate) async fn cancel(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    of: SimpleExpr,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Result<Now, ApiError> {
    let none = || Expr::value(Option::<Timestamp>::None);
    let cancelled = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Discarded))
        .col_expr(Column::Reason, Expr::value(Reason::Cancelled))
        .col_expr(Column::NextAttemptAt, none())
        .col_expr(Column::DispatchAt, none())
        .col_expr(Column::FinishedAt, Expr::value(now))
        .filter(untouched(tenant, of.clone(), now))
        .exec(tx)
        .await?;
    let deliveries = load_all(tx, tenant, of).await?;
    // What goes to nobody can be cancelled as long as its time has not come.
    let empty = deliveries.is_empty() && due.is_none_or(|due| due <= now);
    if empty || !deliveries.iter().all(is_cancelled) {
        return Err(too_late());
    }
    Ok(Now {
        changed: cancelled.rows_affected > 0,
        deliveries,
    })
}

/// Gives the deliveries of one message or email, which `due` says when to send, another time: all of them or none.
///
/// # Errors
/// 409 when one of them is due or was sent, or when they were cancelled; the caller's transaction is to be rolled back
/// then.
pub(crate) async fn reschedule(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    of: SimpleExpr,
    due: Option<Timestamp>,
    to: Timestamp,
    now: Timestamp,
) -> Result<Now, ApiError> {
    let later = Some(to).filter(|to| *to > now);
    let moved = Entity::update_many()
        .col_expr(Column::NextAttemptAt, Expr::value(later))
        // The dispatcher brings it onto the queue, also when it is due now.
        .col_expr(Column::DispatchAt, Expr::value(to.max(now)))
        .filter(untouched(tenant, of.clone(), now))
        .exec(tx)
        .await?;
    let deliveries = load_all(tx, tenant, of).await?;
    if !deliveries.is_empty() && deliveries.iter().all(is_cancelled) {
        return Err(already_cancelled());
    }
    let empty = deliveries.is_empty() && due.is_none_or(|due| due <= now);
    if empty || moved.rows_affected != deliveries.len() as u64 {
        return Err(too_late());
    }
    Ok(Now {
        changed: true,
        deliveries,
    })
}

fn is_cancelled(delivery: &Model) -> bool {
    delivery.status == Status::Discarded && delivery.reason == Some(Reason::Cancelled)
}

/// The answer to who wants to change what was cancelled.
pub(crate) fn already_cancelled() -> ApiError {
    ApiError::new(
        Code::AlreadyCancelled,
        "it was cancelled, which is for good",
    )
}

fn too_late() -> ApiError {
    ApiError::new(
        Code::TooLate,
        "it is due, being sent or was sent: only what waits for its time can be changed",
    )
}
