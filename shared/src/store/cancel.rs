//! Cancels a message or an email before its time.
//!
//! Transition: `pending --> discarded: cancelled`. When a function returns `Done`, every delivery of the message or email is
//! discarded with the reason `cancelled`, and no worker has begun to send any of them; those that were cancelled before
//! stay as they are. Otherwise the caller rolls its transaction back, and nothing has changed. A kill before the commit
//! changes nothing either.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{
    Delivery, Email, Message, read,
    schema::{
        delivery::{Column, Entity},
        message,
    },
    waiting::{Source, is_cancelled, is_due},
};
use crate::{
    clock::Timestamp,
    db::Transaction,
    delivery::{Reason, Status},
    ids::TenantId,
};

/// The result of cancelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// All deliveries are cancelled.
    Done {
        /// Whether this call has cancelled any of them.
        changed: bool,
        /// The deliveries as they are now, oldest first.
        deliveries: Vec<Delivery>,
    },
    /// At least one delivery is due, being sent or finished. The caller has to roll back.
    TooLate,
}

/// Cancels a message, which a job that recovers an endpoint passes over from then on.
///
/// # Errors
/// When the database fails.
pub async fn message(
    tx: &Transaction,
    message: &Message,
    now: Timestamp,
) -> Result<Cancelled, DbErr> {
    // First: a job that recovers an endpoint at the same moment has the row locked, and its delivery is seen then.
    message::Entity::update_many()
        .col_expr(
            message::Column::CancelledAt,
            Expr::value(message.cancelled_at.unwrap_or(now)),
        )
        .filter(message::Column::Id.eq(message.id))
        .exec(tx)
        .await?;
    let source = Source::Message(message.id);
    deliveries(tx, message.tenant_id, source, message.deliver_at, now).await
}

/// Cancels an email.
///
/// # Errors
/// When the database fails.
pub async fn email(tx: &Transaction, email: &Email, now: Timestamp) -> Result<Cancelled, DbErr> {
    let source = Source::Email(email.id);
    deliveries(tx, email.tenant_id, source, email.send_at, now).await
}

async fn deliveries(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    source: Source,
    due: Option<Timestamp>,
    now: Timestamp,
) -> Result<Cancelled, DbErr> {
    let none = || Expr::value(Option::<Timestamp>::None);
    let cancelled = Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Discarded))
        .col_expr(Column::Reason, Expr::value(Reason::Cancelled))
        .col_expr(Column::NextAttemptAt, none())
        .col_expr(Column::DispatchAt, none())
        .col_expr(Column::FinishedAt, Expr::value(now))
        .filter(source.waiting(tenant, now))
        .exec(tx)
        .await?;
    let deliveries = read::deliveries::all(tx, tenant, source.deliveries()).await?;
    // What goes to nobody can be cancelled as long as its time has not come.
    let over = deliveries.is_empty() && is_due(due, now);
    if over || !deliveries.iter().all(is_cancelled) {
        return Ok(Cancelled::TooLate);
    }
    Ok(Cancelled::Done {
        changed: cancelled.rows_affected > 0,
        deliveries,
    })
}
