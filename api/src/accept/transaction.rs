//! One transaction for a batch of submissions.

use std::sync::Arc;

use relaypost_shared::{
    clock::Clock, db::begin_write, entities::delivery, queue::Job, settings::Settings,
};
use sea_orm::{
    ActiveModelTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait,
    IntoActiveModel as _, Iterable as _,
};

use super::{Intake, Plan, Submission};
use crate::{
    http::{ApiError, Code, translate::is_unavailable},
    idempotency::{self, Accepted, Known, Raced},
};

/// Parameters of one statement: SQLite takes 32,766, PostgreSQL 65,535.
const MAX_PARAMETERS: usize = 30_000;
/// How often a submission that lost a race for its key looks again.
const ATTEMPTS: usize = 3;

type Answer = Result<Accepted, ApiError>;

/// Why nothing of a batch was written.
enum Failure {
    Database(DbErr),
    Raced,
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => error.into(),
            Failure::Raced => Self::new(
                Code::Unavailable,
                "other requests with this `Idempotency-Key` were at work; try again",
            ),
        }
    }
}

/// Writes batches.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) db: DatabaseConnection,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
}

impl Store {
    /// Writes a batch and returns an answer for each submission, in order, and the jobs that are due now.
    ///
    /// What is wrong with one submission does not touch its neighbours: a batch that cannot be written as a whole is
    /// written one by one, unless the database is out of reach, which is wrong with all of them.
    pub(super) async fn write<I: Intake>(
        &self,
        batch: &[Submission<I>],
    ) -> (Vec<Answer>, Vec<Job>) {
        let mut jobs = Vec::new();
        let failure = match self.transact(batch, &mut jobs).await {
            Ok(answers) => return (answers, jobs),
            Err(failure) => failure,
        };
        if let Failure::Database(error) = &failure
            && (batch.len() == 1 || is_unavailable(error))
        {
            let error = ApiError::from(failure);
            return (batch.iter().map(|_| Err(error.clone())).collect(), jobs);
        }
        let mut answers = Vec::with_capacity(batch.len());
        for submission in batch {
            answers.push(self.write_one(submission, &mut jobs).await);
        }
        (answers, jobs)
    }

    async fn write_one<I: Intake>(
        &self,
        submission: &Submission<I>,
        jobs: &mut Vec<Job>,
    ) -> Answer {
        let one = std::slice::from_ref(submission);
        let mut result = self.transact(one, jobs).await;
        for _ in 1..ATTEMPTS {
            match result {
                // The winner has committed: its answer is there now.
                Err(Failure::Raced) => result = self.transact(one, jobs).await,
                _ => break,
            }
        }
        result?.pop().unwrap_or_else(|| Err(Failure::Raced.into()))
    }

    async fn transact<I: Intake>(
        &self,
        batch: &[Submission<I>],
        jobs: &mut Vec<Job>,
    ) -> Result<Vec<Answer>, Failure> {
        let (tx, now) = (begin_write(&self.db).await?, self.clock.now());
        let keys = batch
            .iter()
            .filter_map(|one| Some((one.tenant, one.keyed.as_ref()?)));
        let mut known = Known::load(&tx, keys, now).await?;
        let lookup = I::look_up(&tx, batch).await?;

        let (mut answers, mut remembered) = (Vec::with_capacity(batch.len()), Vec::new());
        let (mut rows, mut deliveries) = (Vec::new(), Vec::new());
        for one in batch {
            let keyed = one.keyed.as_ref();
            let known_answer = keyed.map_or(Ok(None), |keyed| known.answer(one.tenant, keyed));
            let planned = match known_answer {
                Ok(None) => I::plan(one, &lookup, now),
                Ok(Some(again)) => {
                    answers.push(Ok(again));
                    continue;
                }
                Err(error) => Err(error),
            };
            answers.push(planned.map(|plan| {
                let Plan {
                    row,
                    deliveries: its,
                    body,
                } = plan;
                rows.push(row);
                deliveries.extend(its);
                if let Some(keyed) = keyed {
                    // The same key again later in this batch gets this answer.
                    known.learn(one.tenant, keyed, &body);
                    remembered.push(idempotency::row(
                        &self.settings,
                        one.tenant,
                        keyed,
                        &body,
                        now,
                    ));
                }
                Accepted::First(body)
            }));
        }
        if let Err(Raced) = idempotency::remember(&tx, remembered, now).await? {
            tx.rollback().await?;
            return Err(Failure::Raced);
        }
        let due_now = deliveries.iter().filter(|one| one.dispatch_at.is_none());
        let due_now: Vec<Job> = due_now.map(job).collect();
        insert(&tx, rows).await?;
        let deliveries = deliveries.into_iter().map(|one| one.into_active_model());
        insert::<delivery::ActiveModel>(&tx, deliveries.collect()).await?;
        tx.commit().await?;
        jobs.extend(due_now);
        Ok(answers)
    }
}

/// The job of a delivery.
pub(crate) fn job(delivery: &delivery::Model) -> Job {
    Job {
        delivery: delivery.id,
        tenant: delivery.tenant_id,
        endpoint: delivery.endpoint_id,
    }
}

/// Inserts many rows in as few statements as the databases take.
async fn insert<A: ActiveModelTrait + Send>(
    tx: &DatabaseTransaction,
    rows: Vec<A>,
) -> Result<(), DbErr> {
    let columns = <A::Entity as EntityTrait>::Column::iter().count();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let part: Vec<A> = rows.by_ref().take(MAX_PARAMETERS / columns).collect();
        A::Entity::insert_many(part)
            .exec_without_returning(tx)
            .await?;
    }
    Ok(())
}
