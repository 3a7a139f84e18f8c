//! The way of one job through the five steps.

mod tasks;

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use chrono::TimeDelta;
use futures::FutureExt as _;
use relaypost_shared::{
    batch::Batcher,
    clock::Clock,
    db::Database,
    delivery::{DeliveryKind, Outcome, Reason},
    health::Stage,
    ids::DeliveryId,
    queue::{Consumer, Limits},
    settings::Settings,
    store::mark::Sending,
};
use sea_orm::DbErr;
use uuid::Uuid;

use crate::{
    Services, abandoned,
    circuit::{self, Answer, Pass},
    decide::{self, decide},
    guard::{Verdict, guard},
    handover::{Cutoff, Handovers},
    load::{Loaded, Loader, Target},
    record::{Recorded, recorder},
    retry,
    send::{Attempted, Failure, Sender},
    unreadable::Unreadable,
};
use tasks::Tasks;

/// How long a job with a rate may be held up between the queue and the attempt.
const HELD_UP: TimeDelta = TimeDelta::milliseconds(500);

/// What a lane's jobs are worked on with. Clones share it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    db: Database,
    loader: Loader,
    clock: Clock,
    settings: Arc<Settings>,
    sender: Sender,
    providers: Arc<[Uuid]>,
    consumer: Consumer,
    recorder: Batcher<Arc<Recorded>, Result<(), Arc<DbErr>>>,
    handovers: Handovers,
    unreadable: Unreadable,
    preparing: Stage,
    recording: Stage,
}

impl Pipeline {
    /// A pipeline whose jobs come from `consumer`, and which loads and records over the connections of [`db::hot`]. What waits
    /// for circuits does so on the ordinary ones: a circuit that somebody holds must not hold up other endpoints. From
    /// `cutoff` on it waits for no mail server any more.
    pub fn new(
        services: &Services,
        hot: &Database,
        sender: Sender,
        consumer: Consumer,
        cutoff: Cutoff,
    ) -> Self {
        let providers: Arc<[Uuid]> = sender.providers().into();
        let keys = services.settings.keyring.clone();
        Self {
            loader: Loader::new(hot.clone(), providers.clone(), keys),
            db: services.db.clone(),
            clock: services.clock.clone(),
            settings: services.settings.clone(),
            providers,
            sender,
            recorder: recorder(services.clone(), hot.clone(), consumer.clone()),
            handovers: Handovers::new(hot.clone(), services.clock.clone(), cutoff),
            preparing: Stage::new(format!("load {}", consumer.lane().name())),
            recording: Stage::new(format!("record {}", consumer.lane().name())),
            consumer,
            unreadable: Unreadable::default(),
        }
    }

    /// What its jobs pass through beside the attempts themselves: a receiver that is slow holds up neither.
    pub(crate) fn stages(&self) -> Vec<Stage> {
        vec![self.preparing.clone(), self.recording.clone()]
    }

    /// Works on one job, and returns when each of its deliveries is recorded and acknowledged, or back in the queue.
    ///
    /// # Panics
    /// As the step that panicked, when everything else about the job is settled: what is being sent is recorded, and the rest
    /// has no job any more. It is found again by the sweep or the dispatcher.
    pub async fn work(self, ids: Vec<DeliveryId>) {
        let mut tasks = Tasks::default();
        let prepared = AssertUnwindSafe(self.prepare(&ids, &mut tasks)).catch_unwind();
        let prepared = prepared.await;
        if prepared.is_err() {
            let mut rest = ids;
            rest.retain(|id| !tasks.has_begun(*id));
            self.consumer.acknowledge(&rest).await;
        }
        tasks.finish(&self.consumer).await;
        if let Err(panic) = prepared {
            resume_unwind(panic);
        }
    }

    /// Everything before the attempts themselves, which it begins in `tasks`.
    async fn prepare(&self, ids: &[DeliveryId], tasks: &mut Tasks) {
        let given_out = self.clock.now();
        let prepared = self.preparing.enter();
        let loaded = match self.loader.load(ids, given_out).await {
            Ok(loaded) => loaded,
            Err(error) => return self.give_back(ids, &error).await,
        };
        let settled: Vec<DeliveryId> = ids
            .iter()
            .copied()
            .filter(|id| loaded.iter().all(|one| one.delivery.id != *id))
            .collect();
        if !settled.is_empty() {
            self.consumer.acknowledge(&settled).await;
        }
        let mut loaded = self.within_limits(loaded).await;
        if self.clock.now() - given_out >= HELD_UP {
            loaded = self.without_paced(loaded).await;
        }
        let (mut marked, mut asked, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for loaded in loaded {
            match guard(&loaded, self.clock.now()) {
                Verdict::Send => tasks.attempt(self, loaded, Pass::Free),
                Verdict::Ask => asked.push(loaded),
                Verdict::Marked(mark) => marked.push((loaded, mark)),
                Verdict::End(outcome) => tasks.end(self, loaded, outcome),
                Verdict::NotDue => done.push(loaded.delivery.id),
            }
        }
        if !marked.is_empty() {
            done.extend(self.take_over(marked, tasks).await);
        }
        let answered = asked.is_empty()
            || match self.ask(asked, tasks).await {
                Some(parked) => {
                    done.extend(parked);
                    true
                }
                None => false,
            };
        if answered {
            prepared.through();
        } else {
            drop(prepared);
        }
        if !done.is_empty() {
            self.consumer.acknowledge(&done).await;
        }
    }

    /// Hands back what the queue gave out before it knew the limits that hold for it by now.
    async fn within_limits(&self, loaded: Vec<Loaded>) -> Vec<Loaded> {
        let limits: Vec<(DeliveryId, Limits)> = loaded
            .iter()
            .map(|one| (one.delivery.id, limits(one)))
            .collect();
        let too_early = match self.consumer.limit(&limits).await {
            Ok(too_early) => too_early,
            Err(error) => {
                // Better a little over a limit than not at all.
                tracing::warn!(%error, "the queue cannot be told of limits");
                return loaded;
            }
        };
        if too_early.is_empty() {
            return loaded;
        }
        self.consumer.hand_back(&too_early).await;
        let mut loaded = loaded;
        loaded.retain(|one| !too_early.contains(&one.delivery.id));
        loaded
    }

    /// Hands back what has a rate, of a job that was held up since the queue gave it out, as by a database that stands still:
    /// it would go out together with what was given out later.
    async fn without_paced(&self, loaded: Vec<Loaded>) -> Vec<Loaded> {
        let (paced, free): (Vec<Loaded>, Vec<Loaded>) = loaded
            .into_iter()
            .partition(|one| limits(one).rate_per_s.is_some());
        let paced: Vec<DeliveryId> = paced.iter().map(|one| one.delivery.id).collect();
        if !paced.is_empty() {
            self.consumer.hand_back(&paced).await;
        }
        free
    }

    /// Ends mails whose worker died while it handed them over. Those whose worker may live need their job no longer, and are
    /// returned.
    async fn take_over(
        &self,
        marked: Vec<(Loaded, Sending)>,
        tasks: &mut Tasks,
    ) -> Vec<DeliveryId> {
        let ids: Vec<DeliveryId> = marked.iter().map(|(one, _)| one.delivery.id).collect();
        let judged = match abandoned::judge(&self.db, &self.clock, marked).await {
            Ok(judged) => judged,
            Err(error) => {
                self.give_back(&ids, &error).await;
                return Vec::new();
            }
        };
        for (loaded, attempted) in judged.abandoned {
            tasks.lost(self, loaded, attempted);
        }
        judged.put_off
    }

    /// Asks the circuits of deliveries that hang on one. What is parked needs its job no longer, and is returned; nothing is
    /// returned when the circuits could not be asked and all went back to the queue.
    async fn ask(&self, slice: Vec<Loaded>, tasks: &mut Tasks) -> Option<Vec<DeliveryId>> {
        let timeout = TimeDelta::from_std(self.settings.webhooks.timeout).unwrap_or_default();
        let answers = circuit::ask(
            &self.db,
            &self.settings.circuit,
            timeout,
            &self.providers,
            &slice,
            self.clock.now(),
        )
        .await;
        let answers = match answers {
            Ok(answers) => answers,
            Err(error) => {
                let ids: Vec<DeliveryId> = slice.iter().map(|one| one.delivery.id).collect();
                self.give_back(&ids, &error).await;
                return None;
            }
        };
        let mut parked = Vec::new();
        for (loaded, answer) in slice.into_iter().zip(answers) {
            match answer {
                Answer::Send(pass) => tasks.attempt(self, loaded, pass),
                Answer::End(outcome) => tasks.end(self, loaded, outcome),
                Answer::Parked => parked.push(loaded.delivery.id),
            }
        }
        Some(parked)
    }

    /// Sends, decides, records.
    async fn attempt(&self, loaded: Loaded, pass: Pass) {
        // A handover stays open until its attempt is recorded.
        let handover;
        let attempted = match &loaded.target {
            Target::Webhook {
                message,
                endpoint,
                credentials: Ok(credentials),
                ..
            } => {
                let sending = self.sender.webhook(message, endpoint, credentials, &pass);
                sending.await
            }
            Target::Webhook {
                credentials: Err(why),
                ..
            } => {
                let wait = self.unreadable.tell(&loaded.delivery, why);
                let later = Outcome::RetryAt(self.clock.now() + wait);
                return self.settle(loaded, None, later).await;
            }
            Target::Email {
                email, recipient, ..
            } => {
                let delivery = &loaded.delivery;
                handover = self.handovers.of(delivery);
                let sending = self
                    .sender
                    .mail(delivery, email, recipient, &pass, &handover);
                // Boxed: it takes ten times the room of a webhook, which would have to carry it along.
                match Box::pin(sending).await {
                    Ok(attempted) => attempted,
                    Err(withheld) => {
                        tracing::warn!(%withheld, delivery = %delivery.id, "mail not sent; its job goes back");
                        handover.take_back().await;
                        return self.consumer.hand_back(&[delivery.id]).await;
                    }
                }
            }
            // The guard lets nothing through that lacks a row.
            Target::Missing => {
                let end = Outcome::DeadLettered(Reason::EndpointDeleted);
                return self.settle(loaded, None, end).await;
            }
        };
        self.conclude(loaded, attempted).await;
    }

    /// Decides what an attempt means, and records it.
    async fn conclude(&self, loaded: Loaded, attempted: Attempted) {
        let context = decide::Context {
            schedule: &self.settings.webhooks.retry_schedule.0,
            now: self.clock.now(),
            chance: rand::random(),
        };
        let outcome = decide(&loaded, &attempted, context);
        match &attempted.result {
            Ok(_) => tracing::debug!(delivery = %loaded.delivery.id, "delivered"),
            Err(failure) => log(&loaded, failure, outcome),
        }
        self.settle(loaded, Some(attempted), outcome).await;
    }

    /// Records until it is recorded: what was sent must not be forgotten because the database restarts.
    async fn settle(&self, loaded: Loaded, attempted: Option<Attempted>, outcome: Outcome) {
        let recorded = Arc::new(Recorded {
            loaded,
            attempted,
            outcome,
            at: self.clock.now(),
        });
        let recording = self.recording.enter();
        for wait in retry::infrastructure() {
            match self.recorder.call(recorded.clone()).await {
                Ok(Ok(())) => return recording.through(),
                Ok(Err(error)) => {
                    let delivery = recorded.loaded.delivery.id;
                    tracing::warn!(%error, %delivery, "a result cannot be recorded yet");
                }
                Err(lost) => tracing::error!(error = %lost, "the recorder is gone"),
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Nothing was sent: the jobs go back, after a pause in which the database may recover.
    async fn give_back(&self, ids: &[DeliveryId], error: &DbErr) {
        tracing::warn!(%error, "deliveries cannot be loaded");
        if let Some(wait) = retry::infrastructure().nth(4) {
            tokio::time::sleep(wait).await;
        }
        self.consumer.hand_back(ids).await;
    }
}

/// The limits of a delivery's endpoint: its own, and the pace of its circuit.
fn limits(Loaded { target, .. }: &Loaded) -> Limits {
    let Target::Webhook {
        endpoint, circuit, ..
    } = target
    else {
        return Limits::default();
    };
    let pace = circuit.as_ref().and_then(|circuit| circuit.pace);
    let pace = pace.map(|pace| u32::try_from(pace).unwrap_or(1));
    let own = Limits::of(endpoint);
    Limits {
        rate_per_s: own.rate_per_s.into_iter().chain(pace).min(),
        ..own
    }
}

/// One structured entry for each failed webhook and mail; what was sent, and to whom, is never in it.
fn log(loaded: &Loaded, failure: &Failure, outcome: Outcome) {
    let delivery = &loaded.delivery;
    let lane = match delivery.kind {
        DeliveryKind::Webhook => "webhook",
        DeliveryKind::Email => "email",
    };
    tracing::warn!(
        tenant_id = %delivery.tenant_id,
        request_id = loaded.request_id(),
        delivery = %delivery.id,
        endpoint = delivery.endpoint_id.map(tracing::field::display),
        kind = lane,
        attempt = delivery.attempt_count + 1,
        error_class = failure.class.as_str(),
        status = failure.status,
        outcome = outcome.name(),
        "attempt failed"
    );
}
