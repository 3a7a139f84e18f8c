//! Gives a message or an email another time, before its time has come.
//!
//! No transition: its deliveries were pending and stay so. When a function returns `Done`, every delivery waits for the new
//! time and no worker has begun to send any of them; a time that is past makes them due. Otherwise the caller rolls its
//! transaction back, and nothing has changed. A kill before the commit changes nothing either.

use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, sea_query::Expr,
};

use super::{
    Delivery, Email, Message, read,
    schema::{
        delivery::{Column, Entity},
        email, message,
    },
    waiting::{Source, is_cancelled, is_due},
};
use crate::{clock::Timestamp, db::Transaction, ids::TenantId};

/// The result of rescheduling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rescheduled {
    /// All deliveries have the new time. They are given as they are now, oldest first.
    Done(Vec<Delivery>),
    /// The deliveries were cancelled. The caller has to roll back.
    AlreadyCancelled,
    /// At least one delivery is due, being sent or finished. The caller has to roll back.
    TooLate,
}

/// Reschedules a message to the time `to`.
///
/// # Errors
/// When the database fails.
pub async fn message(
    tx: &Transaction,
    message: &Message,
    to: Timestamp,
    now: Timestamp,
) -> Result<Rescheduled, DbErr> {
    let (tenant, source) = (message.tenant_id, Source::Message(message.id));
    let moved = deliveries(tx, tenant, source, message.deliver_at, to, now).await?;
    if matches!(moved, Rescheduled::Done(_)) {
        message::Entity::update_many()
            .col_expr(message::Column::DeliverAt, Expr::value(to))
            .filter(message::Column::Id.eq(message.id))
            .exec(tx)
            .await?;
    }
    Ok(moved)
}

/// Reschedules an email to the time `to`.
///
/// # Errors
/// When the database fails.
pub async fn email(
    tx: &Transaction,
    email: &Email,
    to: Timestamp,
    now: Timestamp,
) -> Result<Rescheduled, DbErr> {
    let (tenant, source) = (email.tenant_id, Source::Email(email.id));
    let moved = deliveries(tx, tenant, source, email.send_at, to, now).await?;
    if matches!(moved, Rescheduled::Done(_)) {
        email::Entity::update_many()
            .col_expr(email::Column::SendAt, Expr::value(to))
            .filter(email::Column::Id.eq(email.id))
            .exec(tx)
            .await?;
    }
    Ok(moved)
}

async fn deliveries(
    tx: &impl ConnectionTrait,
    tenant: TenantId,
    source: Source,
    due: Option<Timestamp>,
    to: Timestamp,
    now: Timestamp,
) -> Result<Rescheduled, DbErr> {
    let later = Some(to).filter(|to| *to > now);
    let moved = Entity::update_many()
        .col_expr(Column::NextAttemptAt, Expr::value(later))
        // The dispatcher brings it onto the queue, also when it is due now.
        .col_expr(Column::DispatchAt, Expr::value(to.max(now)))
        .filter(source.waiting(tenant, now))
        .exec(tx)
        .await?;
    let deliveries = read::deliveries::all(tx, tenant, source.deliveries()).await?;
    if !deliveries.is_empty() && deliveries.iter().all(is_cancelled) {
        return Ok(Rescheduled::AlreadyCancelled);
    }
    let over = deliveries.is_empty() && is_due(due, now);
    if over || moved.rows_affected != deliveries.len() as u64 {
        return Ok(Rescheduled::TooLate);
    }
    Ok(Rescheduled::Done(deliveries))
}
