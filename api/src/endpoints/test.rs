//! The test of an endpoint: one message through the real path.

use std::time::Duration;

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    delivery::TEST_EVENT,
    entities::{Texts, endpoint},
    ids::{self, MessageId},
    queue::{Job, Lane},
    store::{
        self, Delivery, Message, Payload,
        accept::{Entry, in_transaction, to_endpoint},
    },
};
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::secret;
use crate::{
    Services,
    auth::may::ForTenant,
    deliveries::Attempt,
    http::{ApiError, Code, Moment, Ref, example_id},
};

/// How often the result is looked for.
const LOOK: Duration = Duration::from_millis(25);
/// How much longer than the attempt the whole may take: a queue, two commits, a worker that is busy.
const MARGIN: Duration = Duration::from_secs(10);

/// What came of a test.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct TestResult {
    /// Whether the endpoint answered 2xx in time.
    delivered: bool,
    /// The message that was sent.
    message_id: Ref<ids::Message>,
    /// Its delivery.
    delivery_id: Ref<ids::Delivery>,
    /// The attempt, with the endpoint's answer.
    attempt: Attempt,
}

impl Example for TestResult {
    fn example() -> Self {
        Self {
            delivered: true,
            message_id: example_id().into(),
            delivery_id: example_id().into(),
            attempt: Attempt::example(),
        }
    }
}

/// Sends a test and waits for its result.
///
/// # Errors
/// 500 when what signs it cannot be opened: no worker would send it. 503 when no worker has made the attempt in time.
pub(super) async fn run(
    services: &Services,
    caller: &ForTenant,
    endpoint: &endpoint::Model,
) -> Result<TestResult, ApiError> {
    let own = endpoint
        .timeout_ms
        .and_then(|millis| u64::try_from(millis).ok());
    let timeout = own.map_or(services.settings.webhooks.timeout, Duration::from_millis);
    let deadline = Instant::now() + timeout + MARGIN;
    secret::current(&services.db, &services.settings.keyring, endpoint).await?;
    endpoint.open_headers(&services.settings.keyring)?;
    let row = send(services, caller, endpoint).await?;
    loop {
        let made = store::test::attempt(&services.db, caller.tenant, row.id).await?;
        if let Some(made) = made {
            let delivered = made.error_class.is_none();
            store::test::end(&services.db, row.id).await?;
            return Ok(TestResult {
                delivered,
                message_id: row
                    .message_id
                    .unwrap_or(MessageId::floor(row.created_at))
                    .into(),
                delivery_id: row.id.into(),
                attempt: made.into(),
            });
        }
        if Instant::now() >= deadline {
            store::test::end(&services.db, row.id).await?;
            let detail = "no worker has made the attempt in time; are workers running?";
            return Err(ApiError::new(Code::Unavailable, detail));
        }
        sleep(LOOK).await;
    }
}

async fn send(
    services: &Services,
    caller: &ForTenant,
    endpoint: &endpoint::Model,
) -> Result<Delivery, ApiError> {
    let now = services.clock.now();
    let (message, payload) = message(caller, endpoint, now);
    let delivery = to_endpoint(&message, endpoint.id);
    let job = Job::of(&delivery);
    let entry = Entry {
        row: message,
        body: payload,
        deliveries: vec![delivery.clone()],
        key: None,
    };
    let tx = begin_write(&services.db).await?;
    in_transaction(&tx, &[entry], now).await?;
    tx.commit().await?;
    if let Err(error) = services.queue.push(Lane::Webhooks, &[job]).await {
        tracing::warn!(%error, "a test is left to the sweep");
    }
    Ok(delivery)
}

fn message(caller: &ForTenant, endpoint: &endpoint::Model, now: Timestamp) -> (Message, Payload) {
    let payload = json!({
        "type": TEST_EVENT,
        "timestamp": Moment::from(now),
        "data": {"endpoint_id": endpoint.id.to_string()},
    });
    let message = Message {
        id: MessageId::generate(now),
        tenant_id: caller.tenant,
        event_type: TEST_EVENT.to_owned(),
        channels: Texts::default(),
        metadata: None,
        ordering_key: None,
        request_id: caller.request_id.to_string(),
        traceparent: None,
        created_at: now,
        deliver_at: None,
        expires_at: None,
        cancelled_at: None,
    };
    let payload = Payload {
        message_id: message.id,
        payload: payload.to_string().into_bytes(),
    };
    (message, payload)
}
