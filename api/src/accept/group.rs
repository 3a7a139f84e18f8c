//! Writes a batch of submissions, so that each gets an answer of its own.

use relaypost_shared::{
    db::{is_unavailable, lacks_partition},
    queue::Job,
    store::partitions,
};
use sea_orm::DbErr;

use super::{Context, Intake, Settled, Submission};
use crate::{
    http::{ApiError, Code},
    idempotency::Accepted,
};

/// The most times that a submission is planned.
const TRIES: usize = 4;

type Answer = Result<Accepted, ApiError>;

/// Writes a batch. Returns an answer for each submission, in order, and the jobs that are due now.
///
/// A submission that cannot be written does not touch its neighbours: what cannot be written together is written one by
/// one, unless the database is out of reach, which concerns all of them.
pub(super) async fn write<I: Intake>(
    intake: &I,
    batch: &[Submission<I::Command>],
) -> (Vec<Answer>, Vec<Job>) {
    let mut group = Group {
        answers: batch.iter().map(|_| None).collect(),
        batch,
        jobs: Vec::new(),
    };
    let all: Vec<usize> = (0..batch.len()).collect();
    if let Err(error) = group.settle(intake, &all).await {
        let open = group.open(&all);
        if open.len() == 1 || is_unavailable(&error) {
            group.fail(&open, &error);
        } else {
            for one in open {
                if let Err(error) = group.settle(intake, &[one]).await {
                    group.fail(&[one], &error);
                }
            }
        }
    }
    let answers = group.answers.into_iter();
    (
        answers.map(|one| one.unwrap_or_else(unsettled)).collect(),
        group.jobs,
    )
}

/// 503: the submission was stale to the end.
fn unsettled() -> Answer {
    let detail = "what decides where this goes keeps changing; try again";
    Err(ApiError::new(Code::Unavailable, detail))
}

/// The submissions of a batch with their answers.
struct Group<'a, C> {
    batch: &'a [Submission<C>],
    answers: Vec<Option<Answer>>,
    jobs: Vec<Job>,
}

impl<C> Group<'_, C> {
    /// Those of `among` that have no answer yet.
    fn open(&self, among: &[usize]) -> Vec<usize> {
        let open = among.iter().copied();
        open.filter(|index| matches!(self.answers.get(*index), Some(None)))
            .collect()
    }

    /// Stores submissions until all of them are answered.
    ///
    /// # Errors
    /// When the database fails. Nothing is stored of those that have no answer then.
    async fn settle<I>(&mut self, intake: &I, among: &[usize]) -> Result<(), DbErr>
    where
        I: Intake<Command = C>,
    {
        for tries_left in (0..TRIES).rev() {
            let open = self.open(among);
            if open.is_empty() {
                break;
            }
            let part: Vec<_> = open
                .iter()
                .filter_map(|index| self.batch.get(*index))
                .collect();
            let settled = match intake.store(&part, tries_left == 0).await {
                // The loop that makes them ahead runs in the workers, which may have been away for weeks.
                Err(error) if lacks_partition(&error) && tries_left > 0 => {
                    let Context { db, clock, .. } = intake.context();
                    partitions::ahead(db, clock.now()).await?;
                    continue;
                }
                settled => settled?,
            };
            for (index, settled) in open.into_iter().zip(settled) {
                if let (Settled::Answered(answer, jobs), Some(slot)) =
                    (settled, self.answers.get_mut(index))
                {
                    *slot = Some(answer);
                    self.jobs.extend(jobs);
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, indexes: &[usize], error: &DbErr) {
        for index in indexes {
            if let Some(slot) = self.answers.get_mut(*index) {
                *slot = Some(Err(error.clone().into()));
            }
        }
    }
}
