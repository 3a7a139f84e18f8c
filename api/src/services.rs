//! What the operations work with.

use std::sync::Arc;

use poem::Request;
use relaypost_migration as migration;
use relaypost_shared::{
    clock::Clock,
    db::{Database, hot},
    health::{Health, LONGEST_TURN, Stage, Tables},
    queue::Queue,
    settings::Settings,
    ssrf::Guard,
    store::partitions,
};

use crate::{
    accept::{Acceptor, Context, Pusher},
    auth::Keys,
    emails::Emails,
    event_types::Schemas,
    http::{ApiError, Code},
    idempotency::InFlight,
    limits::Limiter,
    messages::Messages,
    oauth::Providers,
    people::{AccessTokens, Passwords, Sessions},
};

/// Everything that the API needs to answer requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Services {
    pub(crate) db: Database,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) settings: Arc<Settings>,
    pub(crate) guard: Guard,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
    pub(crate) access_tokens: AccessTokens,
    pub(crate) oauth: Arc<Providers>,
    pub(crate) passwords: Passwords,
    pub(crate) pusher: Pusher,
    pub(crate) messages: Acceptor<Messages>,
    pub(crate) emails: Acceptor<Emails>,
    pub(crate) schemas: Schemas,
    pub(crate) limits: Limiter,
    pub(crate) in_flight: InFlight,
    pub(crate) health: Health,
}

impl Services {
    /// Starts the background tasks of the API on the current Tokio runtime. The schema of `db` has to be up to date.
    pub fn new(db: Database, queue: Queue, clock: Clock, settings: Arc<Settings>) -> Self {
        let health = migration::health(&db, &queue);
        let turn = health.loops().add("make partitions ahead", LONGEST_TURN);
        tokio::spawn(partitions::keep(db.clone(), clock.clone(), turn));
        Self::beside(health, db, queue, clock, settings)
    }

    /// [`Services::new`] for an API that shares its process, and so how that is doing, with a worker.
    pub fn beside(
        health: Health,
        db: Database,
        queue: Queue,
        clock: Clock,
        settings: Arc<Settings>,
    ) -> Self {
        if settings.readiness_requires_redis {
            health.needs_queue();
        }
        let loops = health.loops();
        let pusher = Pusher::start(queue.clone(), loops);
        let hot = hot(&db);
        let stages = [
            "look up API keys",
            "look up sessions",
            "store messages",
            "store emails",
        ]
        .map(Stage::new);
        health.watch_pool(&hot, Tables::Requests, stages.to_vec());
        let [keys, sessions, messages, emails] = stages;

        let context = Context {
            db: hot.clone(),
            clock: clock.clone(),
            settings: settings.clone(),
        };
        Self {
            keys: Keys::start(db.clone(), clock.clone(), keys, loops),
            sessions: Sessions::start(
                db.clone(),
                clock.clone(),
                settings.auth.demo_mode,
                sessions,
                loops,
            ),
            access_tokens: AccessTokens::new(
                &settings.auth.jwt_secrets,
                settings.auth.access_token,
            ),
            oauth: Arc::new(Providers::new(&settings.oauth)),
            messages: Acceptor::start(
                Messages::new(context.clone()),
                &hot,
                pusher.clone(),
                messages,
                loops,
            ),
            emails: Acceptor::start(Emails::new(context), &hot, pusher.clone(), emails, loops),
            passwords: Passwords::new(&settings.auth.argon2),
            pusher,
            schemas: Schemas::new(),
            guard: Guard::new(&settings.webhooks),
            limits: Limiter::new(&settings.limits, clock.clone()),
            in_flight: InFlight::new(settings.idempotency.max),
            db,
            queue,
            clock,
            settings,
            health,
        }
    }

    /// How the process is doing.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The same with a guard of its own, which may look names up in another way.
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard, ..self }
    }

    /// How often this process has run Argon2. It is the same for every sign-in, whoever it is.
    pub fn passwords_hashed(&self) -> u64 {
        self.passwords.hashed()
    }

    /// How much memory Argon2 has filled in this process, in KiB, a pass at a time: what checking passwords has cost.
    pub fn passwords_filled(&self) -> u64 {
        self.passwords.filled()
    }

    /// The services that a request is answered with.
    ///
    /// # Errors
    /// 500 for a request that did not come through [`crate::app`].
    pub(crate) fn of(request: &Request) -> Result<&Self, ApiError> {
        let services = request.data::<Self>();
        services.ok_or_else(|| ApiError::new(Code::Internal, "the request has no services"))
    }
}
