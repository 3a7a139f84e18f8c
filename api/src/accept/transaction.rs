//! One statement or one transaction for a batch of submissions.

use std::sync::Arc;

use relaypost_shared::{
    clock::Clock,
    db::{Database, Transaction, begin_write, is_unavailable, rows},
    entities::delivery,
    queue::Job,
    settings::Settings,
};
use sea_orm::{ConnectionTrait as _, DbErr, EntityTrait, Iterable as _, Statement};

use super::{Intake, Plans, Submission, Written};
use crate::{
    http::{ApiError, Code},
    idempotency::{self, Known, Raced, Stage},
    messages::Catalogs,
};

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
    /// The connections for what every message goes through.
    pub(crate) db: Database,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
    pub(crate) catalogs: Catalogs,
}

impl Store {
    /// Writes a batch. What has an idempotency key needs a transaction; the rest goes without one where it can.
    pub(super) async fn write<I: Intake>(&self, batch: &[Submission<I>]) -> Written {
        let is_keyed = |one: &&Submission<I>| one.held.is_some();
        let (keyed, free): (Vec<_>, Vec<_>) = batch.iter().partition(is_keyed);
        let (keyed, free) = tokio::join!(self.write_part(&keyed), self.write_part(&free));
        let (mut of_keyed, mut of_free) = (keyed.0.into_iter(), free.0.into_iter());
        let answers = batch.iter().map(|one| {
            let answer = match one.held {
                Some(_) => of_keyed.next(),
                None => of_free.next(),
            };
            answer.unwrap_or_else(|| Err(Failure::Raced.into()))
        });
        (answers.collect(), [keyed.1, free.1].concat())
    }

    /// What is wrong with one submission does not touch its neighbours: a part that cannot be written as a whole is
    /// written one by one, unless the database is out of reach, which is wrong with all of them.
    async fn write_part<I: Intake>(&self, part: &[&Submission<I>]) -> Written {
        if part.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let failure = match self.store(part).await {
            Ok(written) => return written,
            Err(failure) => failure,
        };
        if let Failure::Database(error) = &failure
            && (part.len() == 1 || is_unavailable(error))
        {
            let error = ApiError::from(failure);
            return (
                part.iter().map(|_| Err(error.clone())).collect(),
                Vec::new(),
            );
        }
        let (mut answers, mut jobs) = (Vec::with_capacity(part.len()), Vec::new());
        for one in part {
            match self.store(std::slice::from_ref(one)).await {
                Ok((answer, due_now)) => {
                    answers.extend(answer);
                    jobs.extend(due_now);
                }
                Err(failure) => answers.push(Err(failure.into())),
            }
        }
        (answers, jobs)
    }

    async fn store<I: Intake>(&self, part: &[&Submission<I>]) -> Result<Written, Failure> {
        if let Some(postgres) = self.db.postgres()
            && part.iter().all(|one| one.held.is_none())
            && let Some(written) = I::write_at_once(self, &postgres, part).await?
        {
            return Ok(written);
        }
        self.transact(part).await
    }

    async fn transact<I: Intake>(&self, part: &[&Submission<I>]) -> Result<Written, Failure> {
        let tx = begin_write(&self.db).await?;
        match self.fill(&tx, part).await {
            Ok(written) => {
                tx.commit().await?;
                Ok(written)
            }
            Err(failure) => {
                // Waited for: until it is at an end its keys are in use, also for the next try of these submissions. A
                // connection that is gone ends it by itself, and the failure that came first says more.
                let _ = tx.rollback().await;
                Err(failure)
            }
        }
    }

    /// Writes submissions into the transaction.
    async fn fill<I: Intake>(
        &self,
        tx: &Transaction,
        part: &[&Submission<I>],
    ) -> Result<Written, Failure> {
        let now = self.clock.now();
        let keys = part
            .iter()
            .filter_map(|one| Some((one.tenant, one.held.as_ref()?.keyed())));
        let known = Known::claim(tx, keys, now).await?;
        let lookup = I::look_up(tx, part).await?;

        let (mut plans, mut remembered) = (Plans::with_capacity(part.len()), Vec::new());
        for one in part {
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
                    plans.answers.push(Ok(again));
                    continue;
                }
                Err(error) => Err(error),
            };
            if let (Some(body), Some(held)) = (plans.add(planned), held) {
                let (settings, keyed) = (&self.settings, held.keyed());
                remembered.push(idempotency::row(settings, one.tenant, keyed, body, now));
            }
        }
        if let Err(Raced) = idempotency::remember(tx, remembered, now).await? {
            return Err(Failure::Raced);
        }
        let due_now = plans.due_now();
        insert::<I::Entity>(tx, plans.rows).await?;
        insert::<delivery::Entity>(tx, plans.deliveries).await?;
        Ok((plans.answers, due_now))
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
async fn insert<E: EntityTrait>(tx: &Transaction, models: Vec<E::Model>) -> Result<(), DbErr> {
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
