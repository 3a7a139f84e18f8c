//! An API in process, and requests to it.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use chrono::{DateTime, TimeDelta};
use futures::future::BoxFuture;
use poem::{
    Endpoint, EndpointExt as _, Request, Response,
    endpoint::BoxEndpoint,
    http::{Method, Uri},
};
use relaypost_api::{Services, app, serve};
use relaypost_migration as migration;
use relaypost_shared::{
    clock::Clock,
    db::{self, Database},
    health::Health,
    ids::DeliveryId,
    queue::{MemoryQueue, Queue},
    secrets::{Keyring, Place},
    serve::bind,
    settings::Settings,
    ssrf::{Guard, Names},
    store::{
        fixtures::{delivery, email_body},
        partitions,
    },
};
use relaypost_testkit::{Backend, TestDatabase};
use sea_orm::{
    ColumnTrait as _, EntityTrait, PaginatorTrait as _, QueryFilter as _, sea_query::Expr,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::declared;

pub(crate) const ROOT_KEY: &str = "rp_Lq8vT2nXc5Rb9WjYk3Gd7HsPf6MzQa1E";

/// An API on a database of its own, with a queue in this process and a clock that stands still until it is moved.
pub(crate) struct Api {
    pub(crate) db: Database,
    pub(crate) queue: Queue,
    pub(crate) clock: Clock,
    pub(crate) names: Arc<TestNames>,
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    services: Services,
    pub(crate) settings: Arc<Settings>,
    database: TestDatabase,
}

/// Names, so that no test asks the network: each has a public address unless a test gives it others.
#[derive(Debug, Default)]
pub(crate) struct TestNames(Mutex<HashMap<String, Vec<IpAddr>>>);

/// A client with a key.
#[derive(Clone)]
pub(crate) struct Client {
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    headers: Vec<(String, String)>,
}

/// A tenant with a key that may do everything within it.
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) api: Client,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) bytes: Vec<u8>,
    /// The body as JSON, or null when it is none.
    pub(crate) body: Value,
    asked: String,
}

/// An API with the usual settings.
pub(crate) async fn api() -> Api {
    Api::with(&[], Queue::Memory(MemoryQueue::default())).await
}

impl Api {
    pub(crate) async fn with(settings: &[(&str, &str)], queue: Queue) -> Self {
        let database = match Backend::from_env() {
            Backend::Embedded => TestDatabase::sqlite(),
            Backend::Stack => TestDatabase::postgres().await,
        };
        let usual = [
            ("DATABASE_URL", database.url()),
            ("ROOT_API_KEY", ROOT_KEY),
            ("EMAIL_DEFAULT_FROM", "Relaypost <noreply@example.test>"),
            ("ARGON2_MEMORY_KIB", "64"),
            ("ARGON2_ITERATIONS", "1"),
        ];
        let production = settings.contains(&("APP_ENV", "production"));
        let mut env = match production {
            true => relaypost_testkit::production(),
            false => HashMap::new(),
        };
        // Production does not hash passwords so fast.
        let usual = if production { &usual[..3] } else { &usual };
        let pairs = usual.iter().chain(settings);
        env.extend(pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let settings = Settings::from_map(env).unwrap();
        Self::start(settings, queue, database).await
    }

    /// An API with settings that could not be read from any environment.
    pub(crate) async fn with_changed(change: impl FnOnce(&mut Settings)) -> Self {
        let Self {
            mut settings,
            database,
            queue,
            ..
        } = api().await;
        change(Arc::make_mut(&mut settings));
        Self::start(Arc::unwrap_or_clone(settings), queue, database).await
    }

    async fn start(settings: Settings, queue: Queue, database: TestDatabase) -> Self {
        let settings = Arc::new(settings);
        // A test may hold a lock for longer than the deadline of the settings lets anybody wait.
        let patience = settings.database_timeout * 6;
        let db = db::connect(&settings.database_url, 10, Some(patience))
            .await
            .unwrap();
        migration::up(&db).await.unwrap();
        let clock = Clock::manual(DateTime::from_timestamp_millis(1_769_851_800_000).unwrap());
        partitions::ahead(&db, clock.now()).await.unwrap();
        let names = Arc::<TestNames>::default();
        let services = Services::new(db.clone(), queue.clone(), clock.clone(), settings.clone());
        let services = services.guarded(Guard::with_names(&settings.webhooks, names.clone()));
        Self {
            endpoint: Arc::new(app(services.clone()).boxed()),
            services,
            settings,
            names,
            db,
            queue,
            clock,
            database,
        }
    }

    /// How the process is doing.
    pub(crate) fn health(&self) -> &Health {
        self.services.health()
    }

    /// How often Argon2 has run.
    pub(crate) fn passwords_hashed(&self) -> u64 {
        self.services.passwords_hashed()
    }

    /// What that has cost.
    pub(crate) fn passwords_filled(&self) -> u64 {
        self.services.passwords_filled()
    }

    /// The text of the newest sealed mail, which the API shows nobody, and how many there are.
    pub(crate) async fn sealed_mails(&self) -> (usize, String) {
        let mut mails = email_body::Entity::find()
            .filter(email_body::Column::Sealed.eq(true))
            .all(&self.db)
            .await
            .unwrap();
        mails.sort_by_key(|mail| mail.email_id);
        let text = mails.last().map(|mail| {
            let place = Place {
                column: "email_bodies.text",
                row: mail.email_id.uuid(),
                part: "",
            };
            let sealed = mail.text.as_deref().unwrap();
            String::from_utf8(self.settings.keyring.open(place, sealed).unwrap()).unwrap()
        });
        (mails.len(), text.unwrap_or_default())
    }

    /// The same client of a second API process on the same database.
    pub(crate) fn elsewhere(&self, client: &Client) -> Client {
        self.elsewhere_with(client, |_| ())
    }

    /// The same with other settings.
    pub(crate) fn elsewhere_with(
        &self,
        client: &Client,
        change: impl FnOnce(&mut Settings),
    ) -> Client {
        let mut settings = Settings::clone(&self.settings);
        change(&mut settings);
        let (db, queue) = (self.db.clone(), self.queue.clone());
        let services = Services::new(db, queue, self.clock.clone(), Arc::new(settings));
        let guard = Guard::with_names(&self.settings.webhooks, self.names.clone());
        let services = services.guarded(guard);
        Client {
            endpoint: Arc::new(app(services).boxed()),
            headers: client.headers.clone(),
        }
    }

    /// A second API process on the same database that listens on a socket, until the tasks are ended.
    pub(crate) fn serve(&self, tasks: &mut JoinSet<()>) -> SocketAddr {
        let (db, queue) = (self.db.clone(), self.queue.clone());
        let services = Services::new(db, queue, self.clock.clone(), self.settings.clone());
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move {
            serve(services, listener, std::future::pending())
                .await
                .unwrap();
        });
        address
    }

    /// The same client of a process with these keys of secrets at rest.
    pub(crate) fn with_keys(&self, client: &Client, keys: &Keyring) -> Client {
        let (db, queue) = (self.db.clone(), self.queue.clone());
        let settings = Settings {
            keyring: keys.clone(),
            ..(*self.settings).clone()
        };
        let services = Services::new(db, queue, self.clock.clone(), Arc::new(settings));
        Client {
            endpoint: Arc::new(app(services).boxed()),
            headers: client.headers.clone(),
        }
    }

    /// A client with the platform's key.
    pub(crate) fn root(&self) -> Client {
        self.anonymous().key(ROOT_KEY)
    }

    /// A client without a key.
    pub(crate) fn anonymous(&self) -> Client {
        Client {
            endpoint: self.endpoint.clone(),
            headers: Vec::new(),
        }
    }

    pub(crate) async fn tenant(&self) -> Tenant {
        let created = self
            .root()
            .post("/v1/tenants", json!({"name": "Acme"}))
            .await;
        let id = id(&created.expect(201));
        let key = self.key(&id, &["admin"]).await["key"]
            .as_str()
            .unwrap()
            .to_owned();
        Tenant {
            api: self.anonymous().key(&key),
            id,
        }
    }

    /// Creates a key of a tenant and returns the answer.
    pub(crate) async fn key(&self, tenant: &str, scopes: &[&str]) -> Value {
        let path = format!("/v1/tenants/{tenant}/api-keys");
        let new = json!({"name": "a key", "scopes": scopes});
        self.root().post(&path, new).await.expect(201)
    }

    /// How many rows a table has.
    pub(crate) async fn count<E>(&self) -> u64
    where
        E: EntityTrait,
        E::Model: Sync,
    {
        E::find().count(&self.db).await.unwrap()
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    /// Gives a delivery an id of this API's time, and returns it. A generated one sorts after every other of this process,
    /// and other tests may have set their clocks ahead.
    pub(crate) async fn date(&self, delivery: &str) -> String {
        let (from, to) = (
            delivery.parse().unwrap(),
            DeliveryId::floor(self.clock.now()),
        );
        let changed = delivery::Entity::update_many()
            .col_expr(delivery::Column::Id, Expr::value(to))
            .filter(delivery::Column::Id.eq::<DeliveryId>(from))
            .exec(&self.db)
            .await
            .unwrap();
        assert_eq!(changed.rows_affected, 1);
        to.to_string()
    }

    /// Ends the test: nothing of the database stays.
    pub(crate) async fn stop(self) {
        drop((self.endpoint, self.services));
        self.db.close().await;
        self.database.drop_now().await;
    }
}

impl Client {
    pub(crate) fn key(&self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub(crate) fn header(&self, name: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.push((name.to_owned(), value.to_owned()));
        changed
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string().into()))
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string().into()))
            .await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body.to_string().into()))
            .await
    }

    pub(crate) async fn post_bytes(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(Method::POST, path, Some(body.into())).await
    }

    /// Any request; a body is announced as JSON unless a header says otherwise. Fails when the operation does not declare
    /// the answer.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Answer {
        let asked = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path.parse::<Uri>().unwrap());
        let own_type = self.headers.iter().any(|(name, _)| name == "content-type");
        if body.is_some() && !own_type {
            request = request.content_type("application/json");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = match body {
            Some(body) => request.body(body),
            None => request.finish(),
        };
        let response = self.endpoint.call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
        let headers = headers.collect();
        let bytes = body.into_vec().await.unwrap();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            bytes,
            asked,
        };
        declared::hold(&method, path, &answer);
        answer
    }
}

impl TestNames {
    /// From now on the name has these addresses.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        let mut names = self.0.lock().unwrap();
        names.insert(name.to_owned(), addresses.collect());
    }
}

impl Names for TestNames {
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let known = self.0.lock().unwrap().get(name).cloned();
        let addresses = known.unwrap_or_else(|| vec![[93, 184, 216, 34].into()]);
        Box::pin(async { Ok(addresses) })
    }
}

impl Tenant {
    /// Creates an endpoint that wants these event types (none: all), and returns its id.
    pub(crate) async fn endpoint(&self, event_types: &[&str]) -> String {
        let new = json!({"url": "https://example.com/hooks", "event_types": event_types});
        id(&self.api.post("/v1/endpoints", new).await.expect(201))
    }

    /// Publishes a message and returns the answer.
    pub(crate) async fn publish(&self, event_type: &str) -> Value {
        let message = json!({"event_type": event_type, "payload": {"n": 1}});
        self.api.post("/v1/messages", message).await.expect(201)
    }
}

impl Answer {
    /// The body, provided that the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.body
    }

    /// What is wrong with it as an error of this kind: one shape for all.
    pub(crate) fn faults(&self, status: u16, code: &str) -> Vec<String> {
        let body = &self.body;
        let text = |field: &str| body[field].as_str().is_some_and(|text| !text.is_empty());
        let mut faults = Vec::new();
        let mut require = |ok: bool, what: &str| {
            if !ok {
                faults.push(what.to_owned());
            }
        };
        require(self.status == status, &format!("wanted status {status}"));
        require(body["code"] == code, &format!("wanted code {code}"));
        require(body["status"] == self.status, "another status in the body");
        require(
            body["type"] == format!("urn:relaypost:problem:{code}"),
            "wrong type",
        );
        require(text("title") && text("detail"), "no title or no detail");
        require(body["retryable"].is_boolean(), "no retryable");
        let content_type = self.headers.get("content-type");
        require(
            content_type.is_some_and(|value| value == "application/problem+json"),
            "wrong content-type",
        );
        let request_id = self.headers.get("x-request-id");
        require(
            request_id.is_some_and(|id| body["request_id"] == **id),
            "no matching x-request-id",
        );
        faults
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.bytes);
        write!(f, "{} -> {} {body}", self.asked, self.status)
    }
}

/// The id of something.
pub(crate) fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

/// The ids of a list.
pub(crate) fn ids(list: &Value) -> Vec<String> {
    list.as_array().expect("a list").iter().map(id).collect()
}
