//! The way of one job through the five steps.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::TimeDelta;
use relaypost_shared::{
    batch::Batcher,
    clock::{Clock, Timestamp},
    db,
    delivery::{DeliveryKind, Ordering, Outcome},
    ids::DeliveryId,
    queue::{Consumer, Limits},
    settings::{self, Settings},
};
use sea_orm::{DatabaseConnection, DbErr};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    Services,
    circuit::{self, Answer, Pass},
    decide::{self, decide},
    dispatch::{self, Dispatched},
    guard::{Verdict, guard},
    load::{Loaded, Loader, Target},
    record::{Recorded, Written, record, record_delivered},
    retry,
    send::{Attempted, Sender},
    unreadable::Unreadable,
};

/// How long a job with a rate may be held up between the queue and the attempt.
const HELD_UP: TimeDelta = TimeDelta::milliseconds(500);
/// How many results share one transaction at most.
const RECORD_AT_MOST: usize = 100;

/// What a lane's jobs are worked on with. Clones share it.
#[derive(Clone, Debug)]
pub struct Pipeline {
    db: DatabaseConnection,
    loader: Loader,
    clock: Clock,
    settings: Arc<Settings>,
    sender: Sender,
    providers: Arc<[Uuid]>,
    consumer: Consumer,
    recorder: Batcher<Arc<Recorded>, Result<(), Arc<DbErr>>>,
    unreadable: Unreadable,
}

impl Pipeline {
    /// A pipeline whose jobs come from `consumer`, and which loads and records over the connections of [`db::hot`]. What waits
    /// for circuits does so on the ordinary ones: a circuit that somebody holds must not hold up other endpoints.
    pub fn new(
        services: &Services,
        hot: &DatabaseConnection,
        sender: Sender,
        consumer: Consumer,
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
            consumer,
            unreadable: Unreadable::default(),
        }
    }

    /// Works on one job, and returns when each of its deliveries is recorded and acknowledged, or back in the queue.
    pub async fn work(self, ids: Vec<DeliveryId>) {
        let given_out = self.clock.now();
        let loaded = match self.loader.load(&ids, given_out).await {
            Ok(loaded) => loaded,
            Err(error) => return self.give_back(&ids, &error).await,
        };
        let settled: Vec<DeliveryId> = ids
            .into_iter()
            .filter(|id| loaded.iter().all(|one| one.delivery.id != *id))
            .collect();
        if !settled.is_empty() {
            self.consumer.acknowledge(&settled).await;
        }
        let (mut asked, mut done, mut tasks) = (Vec::new(), Vec::new(), Tasks::default());
        let (loaded, stale) = self.fresh(self.within_limits(loaded).await, given_out);
        if !stale.is_empty() {
            self.consumer.hand_back(&stale).await;
        }
        for loaded in loaded {
            match guard(&loaded, self.clock.now()) {
                Verdict::Send => {
                    let pass = Pass::free(&loaded, &self.providers);
                    tasks.attempt(&self, loaded, pass);
                }
                Verdict::Ask => asked.push(loaded),
                Verdict::End(outcome) => tasks.end(&self, loaded, outcome),
                Verdict::NotDue => done.push(loaded.delivery.id),
            }
        }
        if !asked.is_empty() {
            done.extend(self.ask(asked, &mut tasks).await);
        }
        if !done.is_empty() {
            self.consumer.acknowledge(&done).await;
        }
        tasks.finish(&self.consumer).await;
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

    /// Without what has a rate and was held up since the queue gave it out, as by a database that stands still: it would go
    /// out together with what was given out later.
    fn fresh(&self, loaded: Vec<Loaded>, given_out: Timestamp) -> (Vec<Loaded>, Vec<DeliveryId>) {
        if self.clock.now() - given_out < HELD_UP {
            return (loaded, Vec::new());
        }
        let (paced, free): (Vec<Loaded>, Vec<Loaded>) = loaded
            .into_iter()
            .partition(|one| limits(one).rate_per_s.is_some());
        (free, paced.iter().map(|one| one.delivery.id).collect())
    }

    /// Asks the circuits of deliveries that hang on one. What is parked needs its job no longer, and is returned.
    async fn ask(&self, slice: Vec<Loaded>, tasks: &mut Tasks) -> Vec<DeliveryId> {
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
                return Vec::new();
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
        parked
    }

    /// Sends, decides, records.
    async fn attempt(&self, loaded: Loaded, pass: Pass) {
        if let Target::Webhook {
            credentials: Err(why),
            ..
        } = &loaded.target
        {
            let wait = self.unreadable.tell(&loaded.delivery, why);
            let later = Outcome::RetryAt(self.clock.now() + wait);
            return self.settle(loaded, None, later).await;
        }
        let attempted = self.sender.send(&loaded, &pass).await;
        let context = decide::Context {
            schedule: &self.settings.webhooks.retry_schedule.0,
            now: self.clock.now(),
            chance: rand::random(),
        };
        let outcome = decide(&loaded, &attempted, context);
        log(&loaded, &attempted, outcome);
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
        for wait in retry::infrastructure() {
            match self.recorder.call(recorded.clone()).await {
                Ok(Ok(())) => return,
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
    let at_most = |limit: i32| u32::try_from(limit).unwrap_or(1);
    let pace = circuit.as_ref().and_then(|circuit| circuit.pace);
    let max_in_flight = match endpoint.ordering {
        Some(Ordering::Fifo) => Some(1),
        None => endpoint.max_in_flight,
    };
    Limits {
        max_in_flight: max_in_flight.map(at_most),
        rate_per_s: endpoint
            .rate_limit_per_s
            .into_iter()
            .chain(pace)
            .min()
            .map(at_most),
    }
}

/// The deliveries of one job that are being sent or ended.
#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    deliveries: HashMap<tokio::task::Id, DeliveryId>,
}

impl Tasks {
    fn attempt(&mut self, pipeline: &Pipeline, loaded: Loaded, pass: Pass) {
        let (pipeline, delivery) = (pipeline.clone(), loaded.delivery.id);
        let task = async move { pipeline.attempt(loaded, pass).await };
        self.deliveries
            .insert(self.running.spawn(task).id(), delivery);
    }

    fn end(&mut self, pipeline: &Pipeline, loaded: Loaded, outcome: Outcome) {
        let (pipeline, delivery) = (pipeline.clone(), loaded.delivery.id);
        let task = async move { pipeline.settle(loaded, None, outcome).await };
        self.deliveries
            .insert(self.running.spawn(task).id(), delivery);
    }

    async fn finish(mut self, consumer: &Consumer) {
        while let Some(ended) = self.running.join_next().await {
            let Err(error) = ended else { continue };
            let delivery = self.deliveries.get(&error.id());
            tracing::error!(%error, delivery = delivery.map(tracing::field::display), "a delivery's task ended unexpectedly");
            // Without a job it is found again by the sweep or the dispatcher, which is not at once: if it ends like this
            // every time, it does so in peace.
            consumer
                .acknowledge(delivery.map(std::slice::from_ref).unwrap_or_default())
                .await;
        }
    }
}

/// Records in batches, and acknowledges a batch once it is committed.
fn recorder(
    services: Services,
    hot: DatabaseConnection,
    consumer: Consumer,
) -> Batcher<Arc<Recorded>, Result<(), Arc<DbErr>>> {
    Batcher::start(RECORD_AT_MOST, move |batch: Vec<Arc<Recorded>>| {
        let (services, hot, consumer) = (services.clone(), hot.clone(), consumer.clone());
        async move {
            let ids: Vec<DeliveryId> = batch.iter().map(|one| one.loaded.delivery.id).collect();
            let (results, released) = record_each(&hot, &services.settings.circuit, batch).await;
            let done: Vec<DeliveryId> = ids
                .into_iter()
                .zip(&results)
                .filter_map(|(id, result)| result.is_ok().then_some(id))
                .collect();
            consumer.acknowledge(&done).await;
            let now = services.clock.now();
            let pushed = dispatch::push(&services.db, &services.queue, &released, now).await;
            if let Err(error) = pushed {
                // They are in the database, where the dispatcher and the sweep find them.
                tracing::debug!(%error, "what was released is not on the queue yet");
            }
            results
        }
    })
}

/// Records a batch: what was simply delivered in one statement, the rest in a transaction.
async fn record_each(
    hot: &DatabaseConnection,
    policy: &settings::Circuit,
    batch: Vec<Arc<Recorded>>,
) -> (Vec<Result<(), Arc<DbErr>>>, Vec<Dispatched>) {
    let done = match db::postgres(hot) {
        Some(pool) => record_delivered(pool, &batch).await,
        None => Ok(HashSet::new()),
    };
    let done = match done {
        Ok(done) => done,
        Err(error) if is_connection(&error) => {
            let error = Arc::new(error);
            return (vec![Err(error); batch.len()], Vec::new());
        }
        // One of them cannot be written like that: the transaction finds out which.
        Err(error) => {
            tracing::warn!(%error, "successes go the way of what has failed");
            HashSet::new()
        }
    };
    let is_done: Vec<bool> = batch
        .iter()
        .map(|one| done.contains(&one.loaded.delivery.id))
        .collect();
    let rest: Vec<Arc<Recorded>> = batch
        .into_iter()
        .zip(&is_done)
        .filter_map(|(one, done)| (!done).then_some(one))
        .collect();
    let (results, released) = record_rest(hot, policy, &rest).await;
    let mut results = results.into_iter();
    let results = is_done
        .into_iter()
        .map(|done| {
            if done {
                Ok(())
            } else {
                let unanswered = || Err(Arc::new(DbErr::Custom("not recorded".to_owned())));
                results.next().unwrap_or_else(unanswered)
            }
        })
        .collect();
    (results, released)
}

/// Records a batch in a transaction. When that fails, each alone, so that one row that cannot be written holds nobody else up.
async fn record_rest(
    db: &DatabaseConnection,
    policy: &settings::Circuit,
    batch: &[Arc<Recorded>],
) -> (Vec<Result<(), Arc<DbErr>>>, Vec<Dispatched>) {
    if batch.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let error = match record(db, policy, batch).await {
        Ok(Written {
            effective,
            released,
        }) => {
            let late = batch.iter().map(|one| one.loaded.delivery.id);
            for delivery in late.filter(|id| !effective.contains(id)) {
                tracing::warn!(%delivery, "it was changed meanwhile: another worker had it too and was first, or it was cancelled");
            }
            return (vec![Ok(()); batch.len()], released);
        }
        Err(error) => Arc::new(error),
    };
    if batch.len() == 1 || is_connection(&error) {
        return (vec![Err(error); batch.len()], Vec::new());
    }
    let (mut results, mut released) = (Vec::with_capacity(batch.len()), Vec::new());
    for recorded in batch {
        let written = record(db, policy, std::slice::from_ref(recorded)).await;
        results.push(written.map_err(Arc::new).map(|mut written| {
            released.append(&mut written.released);
        }));
    }
    (results, released)
}

fn is_connection(error: &DbErr) -> bool {
    matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_))
}

/// One structured entry for each failed webhook and mail; what was sent, and to whom, is never in it.
fn log(loaded: &Loaded, attempted: &Attempted, outcome: Outcome) {
    let delivery = &loaded.delivery;
    let Err(failure) = &attempted.result else {
        tracing::debug!(delivery = %delivery.id, "delivered");
        return;
    };
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

impl Loaded {
    /// The id of the request that made the delivery.
    pub(crate) fn request_id(&self) -> &str {
        match &self.target {
            Target::Webhook { message, .. } => &message.request_id,
            Target::Email { email, .. } => &email.request_id,
            Target::Missing => "",
        }
    }
}
