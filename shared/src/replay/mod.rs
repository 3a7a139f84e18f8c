//! Replaying and discarding dead letters, one or many: the changes to a delivery, what a job selects, and how its
//! progress is counted. The API makes jobs and counts what they would do, the workers carry them out.

mod filter;
mod progress;

pub use filter::Filter;
pub use progress::{count, take_back_dead};

use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, FromJsonQueryResult, QueryFilter as _, Select,
    UpdateMany,
    sea_query::{CaseStatement, Expr},
};
use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    delivery::Status,
    entities::delivery::{self, Column},
    ids::{DeliveryId, EndpointId, MessageId, ReplayId, TenantId},
};

/// What a job is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// These deliveries, in ascending order and each once.
    Ids(Vec<DeliveryId>),
    /// Every dead letter that fits.
    Filter(Filter),
    /// What an endpoint did not get of the messages of a span of time.
    Missed(Missed),
}

/// A span of time in the life of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Messages accepted at this time or later.
    pub since: Timestamp,
    /// Messages accepted before this time.
    pub until: Timestamp,
}

impl Selection {
    /// The dead letters of `tenant` that are selected and were dead at `as_of` already: what dies later is none of the
    /// job's business.
    pub fn dead_letters(&self, tenant: TenantId, as_of: Timestamp) -> Select<delivery::Entity> {
        delivery::Entity::dead_of_tenant(tenant)
            .filter(Column::DeadAt.lte(as_of))
            .filter(self.condition())
    }

    fn condition(&self) -> Condition {
        match self {
            Self::Ids(ids) => Condition::all().add(Column::Id.is_in(ids.iter().copied())),
            Self::Filter(filter) => filter.condition(),
            // By the message's id: its delivery may be younger, when an earlier job made it.
            Self::Missed(missed) => Condition::all()
                .add(Column::EndpointId.eq(missed.endpoint_id))
                .add(Column::MessageId.gte(MessageId::floor(missed.since)))
                .add(Column::MessageId.lt(MessageId::floor(missed.until))),
        }
    }
}

/// Turns dead deliveries into pending ones that the dispatcher puts on the queue, in the lane of bulk work. Their
/// attempts stay, and their schedules begin anew behind them. Of several that try it with the same delivery, one
/// succeeds. The caller says which deliveries, and which job does it, if one does.
pub fn reviving(now: Timestamp, job: Option<ReplayId>) -> UpdateMany<delivery::Entity> {
    let none = || Expr::value(Option::<Timestamp>::None);
    delivery::Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Pending))
        .col_expr(Column::Reason, Expr::value(Option::<String>::None))
        .col_expr(Column::NextAttemptAt, none())
        .col_expr(Column::DispatchAt, Expr::value(now))
        .col_expr(Column::FinishedAt, none())
        .col_expr(Column::DeadAt, none())
        .col_expr(Column::ReplayedAt, Expr::value(now))
        .col_expr(Column::ScheduleStart, Expr::col(Column::AttemptCount))
        .col_expr(Column::ReplayId, Expr::value(job))
        // Who replays what has expired wants it delivered all the same.
        .col_expr(
            Column::ExpiresAt,
            CaseStatement::new()
                .case(Column::ExpiresAt.gt(now), Expr::col(Column::ExpiresAt))
                .into(),
        )
        .filter(Column::Status.eq(Status::Dead))
}

/// Takes dead deliveries out of the dead-letter queue for good. The caller says which.
pub fn discarding() -> UpdateMany<delivery::Entity> {
    delivery::Entity::update_many()
        .col_expr(Column::Status, Expr::value(Status::Discarded))
        .col_expr(Column::DeadAt, Expr::value(Option::<Timestamp>::None))
        .filter(Column::Status.eq(Status::Dead))
}
