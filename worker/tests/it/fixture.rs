//! A worker's parts on a fresh database, with rows as the API would have written them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use apalis_core::{backend::persistence::Persistence as _, worker::context::WorkerContext};
use chrono::{DateTime, TimeDelta};
use futures::FutureExt as _;
use relaypost_migration as migration;
use relaypost_shared::{
    clock::{Clock, Timestamp},
    db::{self, Database},
    delivery::{
        DeliveryKind, EmailOnUncertain, EndpointStatus, ErrorClass, Reason, ReplayKind,
        ReplayStatus, Signing, Status,
    },
    entities::{Pairs, Seconds, Texts, endpoint, endpoint_secret, tenant},
    ids::{DeliveryId, EmailId, EndpointId, MessageId, ReplayId, SecretId, TenantId},
    queue::{Consumer, Job, Lane, MemoryQueue, Queue},
    replay::Selection,
    secrets::Place,
    settings::Settings,
    ssrf::Guard,
    store::{
        fixtures::{attempt, delivery, email, email_body, message, payload, replay},
        partitions,
    },
};
use relaypost_testkit::{Backend, TestDatabase};
use relaypost_worker::{
    Services, circuit, dispatch, handover::Cutoff, pipeline::Pipeline, replay as worker_replay,
    send::Sender,
};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter,
};
use uuid::Uuid;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) struct Bench {
    pub(crate) db: Database,
    pub(crate) clock: Clock,
    pub(crate) queue: Queue,
    pub(crate) tenant: TenantId,
    pub(crate) settings: Arc<Settings>,
    database: TestDatabase,
    deliveries: AtomicU32,
}

impl Bench {
    pub(crate) async fn new(env: &[(&str, &str)]) -> Self {
        let database = match Backend::from_env() {
            Backend::Embedded => TestDatabase::sqlite(),
            Backend::Stack => TestDatabase::postgres().await,
        };
        let mut all: HashMap<String, String> = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        if all.get("APP_ENV").is_some_and(|env| env == "production") {
            for (name, value) in relaypost_testkit::production() {
                all.entry(name).or_insert(value);
            }
        }
        all.insert("DATABASE_URL".into(), database.url().into());
        let settings = Arc::new(Settings::from_map(all).unwrap());
        // A test may hold a lock for longer than the deadline of the settings lets anybody wait.
        let patience = settings.database_timeout * 6;
        let db = db::connect(&settings.database_url, 10, Some(patience))
            .await
            .unwrap();
        migration::up(&db).await.unwrap();
        let clock = Clock::manual(DateTime::from_timestamp_millis(1_800_000_000_000).unwrap());
        partitions::ahead(&db, clock.now()).await.unwrap();
        let tenant = TenantId::generate(clock.now());
        let row = tenant::Model {
            id: tenant,
            external_id: None,
            name: "test".into(),
            class: tenant::STANDARD.to_owned(),
            created_at: clock.now(),
            dlq_warned_at: None,
            email_on_uncertain: EmailOnUncertain::Hold,
        };
        row.into_active_model().insert(&db).await.unwrap();
        Self {
            db,
            queue: Queue::Memory(MemoryQueue::simulated(clock.clone())),
            clock,
            tenant,
            settings,
            database,
            deliveries: AtomicU32::new(0),
        }
    }

    pub(crate) async fn close(self) {
        self.db.close().await;
        self.database.drop_now().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn services(&self) -> Services {
        Services {
            db: self.db.clone(),
            queue: self.queue.clone(),
            clock: self.clock.clone(),
            settings: self.settings.clone(),
            health: migration::health(&self.db, &self.queue),
        }
    }

    /// A worker's lane: what `relaypost-worker` runs, without its loops.
    pub(crate) fn lane(&self, lane: Lane) -> LaneBench {
        self.guarded(lane, Guard::new(&self.settings.webhooks))
    }

    /// The same with a guard of its own.
    pub(crate) fn guarded(&self, lane: Lane, guard: Guard) -> LaneBench {
        let consumer = Consumer::new(&self.queue, lane, "test", 1_000, None).unwrap();
        let sender = Sender::guarded(&self.settings, guard, self.clock.clone()).unwrap();
        LaneBench {
            pipeline: Pipeline::new(
                &self.services(),
                &db::hot(&self.db),
                sender,
                consumer.clone(),
                Cutoff::default(),
            ),
            consumer,
        }
    }

    /// Fills a lane with jobs of nobody's until there is room for `room` more.
    pub(crate) async fn fill(&self, lane: Lane, room: u64) {
        let jobs: Vec<Job> = (room..dispatch::FULL)
            .map(|_| Job {
                delivery: DeliveryId::generate(self.now()),
                tenant: self.tenant,
                endpoint: None,
                limits: None,
            })
            .collect();
        self.queue.push(lane, &jobs).await.unwrap();
    }

    pub(crate) async fn endpoint(&self, url: &str, schedule: Option<Vec<u32>>) -> EndpointId {
        let id = EndpointId::generate(self.now());
        let row = endpoint::Model {
            id,
            tenant_id: self.tenant,
            external_id: None,
            url: url.into(),
            description: None,
            event_types: Texts::default(),
            channels: Texts::default(),
            headers: self.sealed(id, vec![("x-own".into(), "yes".into())]),
            timeout_ms: None,
            retry_schedule: schedule.map(Seconds),
            rate_limit_per_s: None,
            max_in_flight: None,
            ordering: None,
            signing: Signing::Hmac,
            status: EndpointStatus::Active,
            disabled_reason: None,
            created_at: self.now(),
            updated_at: self.now(),
            deleted_at: None,
        };
        row.into_active_model().insert(&self.db).await.unwrap();
        self.secret(id, SECRET).await;
        id
    }

    /// One more secret of an endpoint.
    pub(crate) async fn secret(&self, endpoint: EndpointId, secret: &str) {
        let id = SecretId::generate(self.now());
        let place = Place::endpoint_secret(id);
        let row = endpoint_secret::Model {
            id,
            tenant_id: self.tenant,
            endpoint_id: endpoint,
            secret: self
                .settings
                .keyring
                .seal(place, secret.as_bytes())
                .unwrap(),
            created_at: self.now(),
            expires_at: None,
        };
        row.into_active_model().insert(&self.db).await.unwrap();
    }

    /// Headers as the row of an endpoint keeps them.
    pub(crate) fn sealed(&self, id: EndpointId, headers: Vec<(String, String)>) -> Pairs {
        endpoint::Model::seal_headers(&self.settings.keyring, id, Pairs(headers)).unwrap()
    }

    pub(crate) async fn message(&self, payload: &[u8]) -> MessageId {
        let id = MessageId::generate(self.now());
        let row = message::Model {
            id,
            tenant_id: self.tenant,
            event_type: "test.event".into(),
            channels: Texts::default(),
            metadata: None,
            ordering_key: None,
            request_id: "req-test".into(),
            traceparent: None,
            created_at: self.now(),
            deliver_at: None,
            expires_at: None,
            cancelled_at: None,
        };
        row.into_active_model().insert(&self.db).await.unwrap();
        let body = payload::Model {
            message_id: id,
            payload: payload.to_vec(),
        };
        body.into_active_model().insert(&self.db).await.unwrap();
        id
    }

    /// A message to an endpoint, accepted and not queued.
    pub(crate) async fn webhook(&self, endpoint: EndpointId) -> DeliveryId {
        let message = self.message(b"{}").await;
        let row = self.pending(DeliveryKind::Webhook);
        let row = delivery::Model {
            message_id: Some(message),
            endpoint_id: Some(endpoint),
            ..row
        };
        self.insert(row).await
    }

    /// An email to one recipient, accepted and not queued.
    pub(crate) async fn email(&self, recipient: &str) -> DeliveryId {
        let id = EmailId::generate(self.now());
        let row = email::Model {
            id,
            tenant_id: self.tenant,
            sender: "Sender <sender@example.test>".into(),
            to_recipients: Texts(vec![recipient.into()]),
            cc_recipients: Texts::default(),
            bcc_recipients: Texts::default(),
            reply_to: None,
            subject: "Grüße".into(),
            headers: Pairs::default(),
            tags: Texts::default(),
            request_id: "req-test".into(),
            created_at: self.now(),
            send_at: None,
        };
        row.into_active_model().insert(&self.db).await.unwrap();
        let body = email_body::Model {
            email_id: id,
            sealed: false,
            text: Some("Hello".into()),
            html: Some("<p>Hello</p>".into()),
        };
        body.into_active_model().insert(&self.db).await.unwrap();
        let row = self.pending(DeliveryKind::Email);
        self.insert(delivery::Model {
            email_id: Some(id),
            recipient: Some(recipient.into()),
            ..row
        })
        .await
    }

    /// An id of this bench's time. A generated one sorts after every other of this process, and other tests may have
    /// set their clocks ahead.
    fn next_id(&self) -> DeliveryId {
        let count = self.deliveries.fetch_add(1, Ordering::Relaxed);
        let floor = DeliveryId::floor(self.now()).uuid().as_u128();
        DeliveryId::from_uuid(Uuid::from_u128(floor + u128::from(count)))
    }

    pub(crate) fn pending(&self, kind: DeliveryKind) -> delivery::Model {
        delivery::Model::pending(self.next_id(), kind, self.tenant, self.now())
    }

    pub(crate) async fn insert(&self, row: delivery::Model) -> DeliveryId {
        let id = row.id;
        row.into_active_model().insert(&self.db).await.unwrap();
        id
    }

    pub(crate) async fn delivery(&self, id: DeliveryId) -> delivery::Model {
        delivery::Entity::find_by_id(id)
            .one(&self.db)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn attempts(&self) -> Vec<attempt::Model> {
        attempt::Entity::find().all(&self.db).await.unwrap()
    }

    pub(crate) async fn conduct(&self) -> u64 {
        circuit::step(&self.db, &self.queue, &self.settings, self.now())
            .await
            .unwrap()
    }

    /// Deliveries that died just now, oldest first.
    pub(crate) async fn dead(&self, count: usize, like: &delivery::Model) -> Vec<DeliveryId> {
        let rows: Vec<delivery::Model> = (0..count)
            .map(|_| delivery::Model {
                id: self.next_id(),
                status: Status::Dead,
                attempt_count: 2,
                reason: Some(Reason::RetriesExhausted),
                error_class: Some(ErrorClass::Http5xx),
                finished_at: Some(self.now()),
                dead_at: Some(self.now()),
                ..like.clone()
            })
            .collect();
        for chunk in rows.chunks(500) {
            let chunk = chunk
                .iter()
                .cloned()
                .map(IntoActiveModel::into_active_model);
            delivery::Entity::insert_many(chunk)
                .exec_without_returning(&self.db)
                .await
                .unwrap();
        }
        rows.iter().map(|row| row.id).collect()
    }

    /// A job as the API makes it.
    pub(crate) async fn job(
        &self,
        kind: ReplayKind,
        selection: Selection,
        rate_per_s: Option<i32>,
    ) -> ReplayId {
        let total = match &selection {
            Selection::Ids(ids) => ids.len() as u64,
            other => {
                let selected = other.dead_letters(self.tenant, self.now());
                selected.count(&self.db).await.unwrap()
            }
        };
        let id = ReplayId::generate(self.now());
        let row = replay::Model {
            id,
            tenant_id: self.tenant,
            kind,
            status: ReplayStatus::Running,
            selection,
            rate_per_s,
            total: total.try_into().unwrap(),
            released: 0,
            skipped: 0,
            delivered: 0,
            dead: 0,
            cursor: None,
            message_cursor: None,
            paced_from: self.now(),
            paced_count: 0,
            next_at: Some(self.now()),
            actor: "platform".into(),
            request_id: "req-job".into(),
            created_at: self.now(),
            finished_at: None,
        };
        row.into_active_model().insert(&self.db).await.unwrap();
        id
    }

    pub(crate) async fn job_row(&self, id: ReplayId) -> replay::Model {
        let found = replay::Entity::find_by_id(id).one(&self.db).await;
        found.unwrap().unwrap()
    }

    /// One step of the replay jobs: how many deliveries it released.
    pub(crate) async fn release(&self) -> u64 {
        let stepped = worker_replay::step(&self.db, &self.queue, self.now()).await;
        stepped.unwrap().released
    }

    /// Steps until every job has released everything.
    pub(crate) async fn release_all(&self) -> u64 {
        let mut released = 0;
        while replay::Entity::find()
            .filter(replay::Column::NextAt.is_not_null())
            .count(&self.db)
            .await
            .unwrap()
            > 0
        {
            released += self.release().await;
            self.clock.advance(TimeDelta::milliseconds(100));
        }
        released
    }

    pub(crate) async fn dispatch(&self) -> u64 {
        dispatch::step(&self.db, &self.queue, self.now())
            .await
            .unwrap()
    }
}

pub(crate) struct LaneBench {
    pipeline: Pipeline,
    consumer: Consumer,
}

impl LaneBench {
    /// How many deliveries it holds.
    pub(crate) fn in_flight(&self) -> usize {
        self.consumer.in_flight()
    }

    pub(crate) async fn work(&self, ids: &[DeliveryId]) {
        self.pipeline.clone().work(ids.to_vec()).await;
    }

    /// Works on what is ready on the queue, until nothing is, and returns how much there was.
    pub(crate) async fn work_queue(&self) -> usize {
        let mut consumer = self.consumer.clone();
        let context = WorkerContext::new("test");
        let mut worked = 0;
        // Ready at once, or nothing is.
        while let Some(Ok(tasks)) = consumer.fetch_next(&context).now_or_never() {
            for task in tasks {
                worked += task.args.len();
                self.pipeline.clone().work(task.args).await;
            }
        }
        worked
    }
}

impl LaneBench {
    /// Loses every job that is ready on the queue.
    pub(crate) async fn lose_queue(&self) {
        let mut consumer = self.consumer.clone();
        let context = WorkerContext::new("test");
        while let Some(Ok(tasks)) = consumer.fetch_next(&context).now_or_never() {
            for task in tasks {
                self.consumer.acknowledge(&task.args).await;
            }
        }
    }
}

/// The settings of a test's SMTP provider.
pub(crate) fn smtp_url(server: &relaypost_testkit::SmtpServer) -> Arc<str> {
    format!("smtp://{}?tls=none", server.addr()).into()
}
