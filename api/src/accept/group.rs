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
        jobs: Vec::new(),
    };
    let mut parts: Vec<Vec<usize>> = vec![(0..batch.len()).collect()];
    while let Some(part) = parts.pop() {
        for tries_left in (0..TRIES).rev() {
            let open = group.open(&part);
            if open.is_empty() {
                break;
            }
            let submissions: Vec<_> = open.iter().filter_map(|one| batch.get(*one)).collect();
            match intake.store(&submissions, tries_left == 0).await {
                Ok(settled) => group.answer(open, settled),
                // The loops that make them ahead may not have run for weeks.
                Err(error) if lacks_partition(&error) && tries_left > 0 => {
                    let Context { db, clock, .. } = intake.context();
                    if let Err(error) = partitions::at(db, clock.now()).await {
                        group.fail(&open, &error);
                        break;
                    }
                }
                Err(error) => {
                    if open.len() == 1 || is_unavailable(&error) {
                        group.fail(&open, &error);
                    } else {
                        // The last part is the next: they are written in order.
                        parts = open.into_iter().rev().map(|one| vec![one]).collect();
                    }
                    break;
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

/// The answers to the submissions of a batch.
struct Group {
    answers: Vec<Option<Answer>>,
    jobs: Vec<Job>,
}

impl Group {
    /// Those of `among` that have no answer yet.
    fn open(&self, among: &[usize]) -> Vec<usize> {
        let open = among.iter().copied();
        open.filter(|index| matches!(self.answers.get(*index), Some(None)))
            .collect()
    }

    /// Keeps the answers of those that were settled.
    fn answer(&mut self, indexes: Vec<usize>, settled: Vec<Settled>) {
        for (index, settled) in indexes.into_iter().zip(settled) {
            if let (Settled::Answered(answer, jobs), Some(slot)) =
                (settled, self.answers.get_mut(index))
            {
                *slot = Some(answer);
                self.jobs.extend(jobs);
            }
        }
    }

    fn fail(&mut self, indexes: &[usize], error: &DbErr) {
        for index in indexes {
            if let Some(slot) = self.answers.get_mut(*index) {
                *slot = Some(Err(error.clone().into()));
            }
        }
    }
}
