//! One thing of every kind that a path can name, for the tests that ask for all operations.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use poem::http::Method;
use relaypost_shared::{
    delivery::{ErrorClass, Reason, Status, TEST_EVENT},
    store::fixtures::{delivery, message},
};
use relaypost_testkit::eventually;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use serde_json::{Value, json};

use crate::{
    Answer, Api,
    dead::{dead_email, dead_webhook, kill},
    id,
    permissions::Operation,
    support::{Client, Tenant},
};

/// How many have been made: each has an event type of its own, so that its messages go to its endpoint alone.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A year after the time of these tests.
const LATER: &str = "2027-01-31T09:30:00Z";

/// Things of a tenant in a state in which everything can be done with them.
pub(crate) struct Things {
    tenant: String,
    endpoint: String,
    /// It waits for its time.
    message: String,
    /// It waits for its time.
    email: String,
    /// It waits for its next attempt.
    delivery: String,
    dead_webhook: String,
    dead_email: String,
    event_type: String,
    /// It is under way.
    replay: String,
    key: String,
    platform_key: String,
    /// A member.
    user: String,
}

impl Things {
    pub(crate) async fn make(api: &Api, tenant: &Tenant) -> Self {
        let event_type = format!("made.{}", MADE.fetch_add(1, Ordering::Relaxed));
        let endpoint = tenant.endpoint(&[&event_type]).await;
        let scheduled = json!({"event_type": event_type, "payload": {}, "deliver_at": LATER});
        let message = tenant.api.post("/v1/messages", scheduled).await.expect(201);
        let scheduled =
            json!({"to": ["a@example.com"], "subject": "a", "text": "a", "send_at": LATER});
        let email = tenant.api.post("/v1/emails", scheduled).await.expect(201);
        let delivery = id(&tenant.publish(&event_type).await["deliveries"][0]);
        let dead_webhook = dead_webhook(api, tenant, &event_type).await;
        let (dead_email, _) = dead_email(api, tenant).await;
        let new = json!({"name": event_type});
        tenant.api.post("/v1/event-types", new).await.expect(201);
        let filter = json!({"filter": {"endpoint_id": endpoint}});
        let replay = tenant.api.post("/v1/dlq/replay", filter).await.expect(202);
        let key = api.key(&tenant.id, &["read"]).await;
        let members = format!("/v1/tenants/{}/members", tenant.id);
        let member = json!({"email": unknown_address(), "role": "viewer"});
        let member = tenant.api.post(&members, member).await.expect(201);
        let platform = json!({"name": "a"});
        let platform = api.root().post("/v1/platform/api-keys", platform).await;
        Self {
            tenant: tenant.id.clone(),
            endpoint,
            message: id(&message),
            email: id(&email),
            delivery,
            dead_webhook,
            dead_email,
            event_type,
            replay: id(&replay),
            key: id(&key),
            platform_key: id(&platform.expect(201)),
            user: member["user_id"].as_str().unwrap().to_owned(),
        }
    }

    /// Has the platform register an event type with the same name, unless it has.
    pub(crate) async fn have_a_type_of_the_platform(&self, api: &Api) {
        let new = json!({"name": self.event_type});
        let answer = api.root().post("/v1/event-types", new).await;
        assert!(matches!(answer.status, 201 | 409), "{answer}");
    }

    /// What gives a thing of this tenant away.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        [
            &self.tenant,
            &self.endpoint,
            &self.message,
            &self.email,
            &self.delivery,
            &self.dead_webhook,
            &self.dead_email,
            &self.event_type,
            &self.replay,
            &self.key,
            &self.platform_key,
            &self.user,
        ]
        .into_iter()
        .map(String::as_str)
    }

    /// Asks for an operation on these things, with the example of the document as its body or with one that fits them.
    pub(crate) async fn ask(&self, api: &Api, client: &Client, operation: &Operation) -> Answer {
        let path = self.path(operation);
        let body = self.body(operation).map(|body| body.to_string().into());
        let asked = client.send(operation.method.clone(), &path, body);
        if operation.id != "endpoints_test" {
            return asked.await;
        }
        tokio::pin!(asked);
        // The operation waits for a worker, and here is none.
        tokio::select! {
            answer = &mut asked => return answer,
            () = work_off_the_test(api) => {}
        }
        asked.await
    }

    fn path(&self, operation: &Operation) -> String {
        let parts = operation.path.split('/').map(|part| {
            let Some(name) = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'))
            else {
                return part;
            };
            let of = |start: &str| operation.path.starts_with(start);
            match name {
                "tenant_id" => &self.tenant,
                "endpoint_id" => &self.endpoint,
                "message_id" => &self.message,
                "email_id" => &self.email,
                "delivery_id" if of("/v1/webhooks/dlq") => &self.dead_webhook,
                "delivery_id" if of("/v1/emails/dlq") => &self.dead_email,
                "delivery_id" => &self.delivery,
                "name" => &self.event_type,
                "replay_id" => &self.replay,
                "key_id" if of("/v1/platform") => &self.platform_key,
                "key_id" => &self.key,
                "user_id" => &self.user,
                "provider" => "github",
                // A `PUT` makes what it names.
                "external_id" => "customer-42",
                _ => panic!(
                    "{}: make a thing in api/tests/it/things.rs that {{{name}}} can name",
                    operation.id
                ),
            }
        });
        parts.collect::<Vec<_>>().join("/")
    }

    fn body(&self, operation: &Operation) -> Option<Value> {
        let body = match operation.id.as_str() {
            "messages_reschedule" => json!({"deliver_at": LATER}),
            "emails_reschedule" => json!({"send_at": LATER}),
            // A name can be taken only once.
            "event_types_create" => {
                json!({"name": format!("new.{}", MADE.fetch_add(1, Ordering::Relaxed))})
            }
            "users_create" => json!({"email": unknown_address()}),
            "members_add" => json!({"email": unknown_address(), "role": "viewer"}),
            "dlq_replay" | "dlq_discard" => json!({"ids": [self.dead_webhook]}),
            "endpoints_recover" => json!({"since": "2026-01-31T09:00:00Z"}),
            _ => return operation.body.clone(),
        };
        assert_ne!(operation.method, Method::GET);
        Some(body)
    }
}

/// An address that no user has.
fn unknown_address() -> String {
    format!("made.{}@example.test", MADE.fetch_add(1, Ordering::Relaxed))
}

/// The delivery of the test that waits for its attempt.
pub(crate) async fn test_under_way(api: &Api) -> String {
    let waiting = eventually(Duration::from_secs(30), || async {
        let tests = message::Entity::find().filter(message::Column::EventType.eq(TEST_EVENT));
        let tests = tests.all(&api.db).await.unwrap().into_iter();
        let found = delivery::Entity::find()
            .filter(delivery::Column::MessageId.is_in(tests.map(|test| test.id)))
            .filter(delivery::Column::Status.eq(Status::Pending))
            .one(&api.db)
            .await;
        found.unwrap().ok_or_else(|| "no test waits".to_owned())
    });
    waiting.await.id.to_string()
}

/// Ends the delivery of a test, as a worker does when the endpoint answers 503.
pub(crate) async fn work_off_the_test(api: &Api) {
    let id = test_under_way(api).await;
    kill(api, &id, Reason::RetriesExhausted, ErrorClass::Http5xx).await;
}
