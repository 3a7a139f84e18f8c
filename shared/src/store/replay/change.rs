//! Replays and discards dead letters.
//!
//! Guarantee: only a delivery that is dead is changed, so of several that try it with the same delivery one succeeds. A
//! replayed delivery needs no job: the dispatcher puts it onto the queue, also when the process is killed after the commit.
//!
//! Transitions: `replayed` (dead → pending), `discarded` (dead → discarded).

use sea_orm::{
    ColumnTrait as _, EntityTrait as _, QueryFilter as _, UpdateMany,
    sea_query::{Alias, CaseStatement, Expr},
};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    delivery::Status,
    ids::ReplayId,
    store::schema::delivery::{Column, Entity},
};

/// Turns dead deliveries into pending ones that the dispatcher puts on the queue, in the lane of bulk work. Their
/// attempts stay, and their schedules begin anew behind them. Of several that try it with the same delivery, one
/// succeeds. The caller says which deliveries, and which job does it, if one does.
pub fn reviving(now: Timestamp, job: Option<ReplayId>) -> UpdateMany<Entity> {
    let none = || Expr::value(Option::<Timestamp>::None);
    Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Pending))
        .col_expr(Column::Reason, Expr::value(Option::<String>::None))
        .col_expr(Column::NextAttemptAt, none())
        .col_expr(Column::DispatchAt, Expr::value(now))
        .col_expr(Column::FinishedAt, none())
        .col_expr(Column::DeadAt, none())
        .col_expr(Column::ReplayedAt, Expr::value(now))
        .col_expr(Column::ScheduleStart, Expr::col(Column::AttemptCount))
        .col_expr(Column::ReplayId, Expr::value(job))
        // The sign of a hand-over is left on an email that somebody held back in the database itself, and would make it
        // uncertain again instead of sending it.
        .col_expr(
            Alias::new("sending_token"),
            Expr::value(Option::<Uuid>::None),
        )
        .col_expr(Alias::new("sending_at"), none())
        // An operator who replays what has expired wants it delivered all the same.
        .col_expr(
            Column::ExpiresAt,
            CaseStatement::new()
                .case(Column::ExpiresAt.gt(now), Expr::col(Column::ExpiresAt))
                .into(),
        )
        .filter(Column::Status.eq(Status::Dead))
}

/// Takes dead deliveries out of the dead-letter queue for good. The caller says which.
pub fn discarding() -> UpdateMany<Entity> {
    Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Discarded))
        .col_expr(Column::DeadAt, Expr::value(Option::<Timestamp>::None))
        .filter(Column::Status.eq(Status::Dead))
}
