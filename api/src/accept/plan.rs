//! Plans: the rows and the answer of each submission of a batch, and how they are stored.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use relaypost_shared::{
    clock::{Clock, Timestamp},
    db::{Database, Transaction, begin_write},
    ids::TenantId,
    queue::Job,
    secrets::Keyring,
    settings::Settings,
    store::{
        Delivery,
        accept::{
            self, Content, Entry, Outcome, Written,
            keys::{self, Name, Standing},
        },
    },
};
use sea_orm::DbErr;

use super::{Settled, Submission};
use crate::{
    http::ApiError,
    idempotency::{Accepted, Held, Keyed, again, in_use, settled},
};

/// The services that planning and storing need.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The connections for what every message goes through.
    pub(crate) db: Database,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
}

/// The rows and the answer of one submission.
#[derive(Debug)]
pub(crate) struct Plan<R: Content> {
    /// The message or the email.
    pub(crate) row: R,
    /// Its payload or its texts.
    pub(crate) body: R::Body,
    /// Its deliveries.
    pub(crate) deliveries: Vec<Delivery>,
    /// The jobs of those that are due now.
    pub(crate) jobs: Vec<Job>,
    /// The body of the answer, which is also what is remembered for its key.
    pub(crate) answer: Bytes,
}

/// The plans of a batch.
#[derive(Debug)]
pub(crate) struct Plans<'a, R: Content> {
    now: Timestamp,
    /// The plans that are to be stored.
    entries: Vec<Entry<R>>,
    /// For each submission, in order.
    planned: Vec<Planned<'a>>,
}

/// The plan of one submission without its rows.
#[derive(Debug)]
struct Planned<'a> {
    tenant: TenantId,
    key: Option<&'a Keyed>,
    /// The answer once its entry is stored, with the jobs that are due then; or why it has no entry.
    answer: Result<(Bytes, Vec<Job>), ApiError>,
}

impl<'a, R: Content> Plans<'a, R> {
    /// Plans submissions as of `now`.
    pub(crate) fn of<C>(
        context: &Context,
        batch: &[&'a Submission<C>],
        now: Timestamp,
        plan: impl Fn(&Submission<C>) -> Result<Plan<R>, ApiError>,
    ) -> Self {
        let expires_at = now + context.settings.idempotency.ttl;
        let mut entries = Vec::with_capacity(batch.len());
        let planned = batch.iter().map(|submission| {
            let tenant = submission.tenant;
            let key = submission.held.as_deref().map(Held::keyed);
            let answer = plan(submission).map(|plan| {
                let remember =
                    |keyed: &Keyed| keyed.remembering(tenant, plan.answer.clone(), expires_at);
                entries.push(Entry {
                    row: plan.row,
                    body: plan.body,
                    key: key.map(remember),
                    deliveries: plan.deliveries,
                });
                (plan.answer, plan.jobs)
            });
            Planned {
                tenant,
                key,
                answer,
            }
        });
        let planned = planned.collect();
        Self {
            now,
            entries,
            planned,
        }
    }

    /// Stores the plans in one statement, if that is possible; none: it has to be a transaction. A submission whose tenant
    /// has another edition of its catalog than the one given is stale.
    ///
    /// # Errors
    /// When the statement fails; then nothing is stored, unless the connection was lost after it was.
    pub(crate) async fn store_at_once(
        self,
        context: &Context,
        editions: &[(TenantId, Option<i64>)],
    ) -> Result<Option<Vec<Settled>>, DbErr> {
        let (db, now) = (&context.db, self.now);
        let refused = self.refused_keys();
        let stored = accept::at_once(db, &self.entries, editions, now);
        let (outcomes, standing) = if refused.is_empty() {
            (stored.await, Ok(Vec::new()))
        } else {
            tokio::join!(stored, standing_of(db, refused, now))
        };
        // What is stored is answered, whatever else fails.
        Ok(outcomes?.map(|written| self.settle(context, written, standing)))
    }

    /// Stores the plans in a transaction, and commits it.
    ///
    /// # Errors
    /// When the database fails; then nothing is stored, unless the connection was lost at the commit.
    pub(crate) async fn store_in(
        self,
        context: &Context,
        tx: Transaction,
    ) -> Result<Vec<Settled>, DbErr> {
        let done = async {
            let standing = keys::claim(&tx, &self.refused_keys(), self.now).await?;
            let outcomes = accept::in_transaction(&tx, &self.entries, self.now).await?;
            Ok((outcomes, standing))
        };
        match done.await {
            Ok((outcomes, standing)) => {
                tx.commit().await?;
                let written = Written {
                    outcomes,
                    stale: HashSet::new(),
                };
                Ok(self.settle(context, written, Ok(standing)))
            }
            Err(error) => {
                // Waited for: until it is at an end its keys are in use, also for the next try of these submissions. A
                // connection that is gone ends it by itself, and the failure that came first says more.
                let _ = tx.rollback().await;
                Err(error)
            }
        }
    }

    /// The keys of submissions that are refused. A request that was accepted before is answered as it was then, also when it
    /// would be refused now.
    fn refused_keys(&self) -> Vec<Name<'a>> {
        let refused = self.planned.iter().filter(|one| one.answer.is_err());
        let names = refused.filter_map(|one| Some(one.key?.name(one.tenant)));
        names.collect()
    }

    fn settle(
        self,
        context: &Context,
        written: Written,
        standing: Result<Vec<Standing>, DbErr>,
    ) -> Vec<Settled> {
        let keyring = &context.settings.keyring;
        let mut outcomes = written.outcomes.into_iter();
        let mut standing = standing.map(Vec::into_iter);
        let settle = |Planned {
                          tenant,
                          key,
                          answer,
                      }: Planned<'_>| {
            let answer = match (answer, key) {
                (Ok((body, jobs)), _) => match outcomes.next() {
                    Some(Outcome::Stored) => {
                        return Settled::Answered(Ok(Accepted::First(body)), jobs);
                    }
                    Some(Outcome::Stale) | None => return Settled::Stale,
                    Some(outcome) => not_stored(key, outcome, keyring),
                },
                (Err(refusal), None) => Err(refusal),
                (Err(refusal), Some(keyed)) => match &mut standing {
                    Ok(standing) => {
                        let standing = standing.next().unwrap_or(Standing::Free);
                        let known = settled(keyed, &standing, keyring);
                        known.and_then(|known| known.ok_or(refusal))
                    }
                    Err(error) => Err(error.clone().into()),
                },
            };
            if written.stale.contains(&tenant) {
                return Settled::Stale;
            }
            Settled::Answered(answer, Vec::new())
        };
        self.planned.into_iter().map(settle).collect()
    }
}

/// The answer to a submission whose key is not free.
fn not_stored(
    key: Option<&Keyed>,
    outcome: Outcome,
    keyring: &Keyring,
) -> Result<Accepted, ApiError> {
    match (outcome, key) {
        (Outcome::Known(known), Some(keyed)) => again(keyed, &known, keyring),
        (Outcome::Unread(error), _) => Err(error.into()),
        _ => Err(in_use()),
    }
}

/// Asks [`keys::claim`] in a transaction of its own.
async fn standing_of(
    db: &Database,
    keys: Vec<Name<'_>>,
    now: Timestamp,
) -> Result<Vec<Standing>, DbErr> {
    let tx = begin_write(db).await?;
    let standing = keys::claim(&tx, &keys, now).await;
    // Waited for: until it is at an end these keys are in use. A connection that is gone ends it by itself.
    let _ = tx.rollback().await;
    standing
}
