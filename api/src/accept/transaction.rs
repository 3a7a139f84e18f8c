//! One transaction for a batch of submissions.

use std::sync::Arc;

use relaypost_shared::{
    clock::Clock,
    db::{begin_write, rows},
    entities::delivery,
    queue::Job,
    settings::Settings,
};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait,
    Iterable as _, Statement,
};

use super::{Intake, Plan, Submission};
use crate::{
    http::{ApiError, Code, translate::is_unavailable},
    idempotency::{self, Accepted, Known, Raced, Stage},
};

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
                Code::IdempotencyKeyInUse,
                "another request with this `Idempotency-Key` was at work; try again",
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
        let mut answers = self.transact(one, jobs).await?;
        answers.pop().unwrap_or_else(|| Err(Failure::Raced.into()))
    }

    async fn transact<I: Intake>(
        &self,
        batch: &[Submission<I>],
        jobs: &mut Vec<Job>,
    ) -> Result<Vec<Answer>, Failure> {
        let tx = begin_write(&self.db).await?;
        match self.fill(&tx, batch).await {
            Ok((answers, due_now)) => {
                tx.commit().await?;
                jobs.extend(due_now);
                Ok(answers)
            }
            Err(failure) => {
                // Waited for: until it is at an end its keys are in use, also for the next try of these submissions. A
                // connection that is gone ends it by itself, and the failure that came first says more.
                let _ = tx.rollback().await;
                Err(failure)
            }
        }
    }

    /// Writes a batch into the transaction, and returns the jobs that are due now beside the answers.
    async fn fill<I: Intake>(
        &self,
        tx: &DatabaseTransaction,
        batch: &[Submission<I>],
    ) -> Result<(Vec<Answer>, Vec<Job>), Failure> {
        let now = self.clock.now();
        let keys = batch
            .iter()
            .filter_map(|one| Some((one.tenant, one.held.as_ref()?.keyed())));
        let known = Known::claim(tx, keys, now).await?;
        let lookup = I::look_up(tx, batch).await?;

        let (mut answers, mut remembered) = (Vec::with_capacity(batch.len()), Vec::new());
        let (mut rows, mut deliveries) = (Vec::new(), Vec::new());
        for one in batch {
            let held = one.held.as_deref();
            let keys = &self.settings.keyring;
            let known_answer = held.map_or(Ok(None), |held| {
                known.answer(one.tenant, held.keyed(), keys)
            });
            if let Some(held) = held {
                held.is(Stage::of(&known_answer));
            }
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
                if let Some(held) = held {
                    remembered.push(idempotency::row(
                        &self.settings,
                        one.tenant,
                        held.keyed(),
                        &body,
                        now,
                    ));
                }
                Accepted::First(body)
            }));
        }
        if let Err(Raced) = idempotency::remember(tx, remembered, now).await? {
            return Err(Failure::Raced);
        }
        let due_now = deliveries.iter().filter(|one| one.dispatch_at.is_none());
        let due_now: Vec<Job> = due_now.map(job).collect();
        insert::<I::Entity>(tx, rows).await?;
        insert::<delivery::Entity>(tx, deliveries).await?;
        Ok((answers, due_now))
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
async fn insert<E: EntityTrait>(
    tx: &DatabaseTransaction,
    models: Vec<E::Model>,
) -> Result<(), DbErr> {
    let statements: Vec<Statement> = models
        .chunks(rows::at_once(E::Column::iter().count()))
        .map(|part| rows::insert::<E>(tx.get_database_backend(), part, Vec::new(), ""))
        .collect::<Result<_, _>>()?;
    drop(models);
    for statement in statements {
        tx.execute_raw(statement).await?;
    }
    Ok(())
}
