//! A message as it stands in bodies.

use std::collections::BTreeMap;

use poem_openapi::{
    Object,
    types::{Any, Example},
};
use relaypost_shared::{clock::Timestamp, delivery::is_reserved, ids, store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    deliveries::Delivery,
    event_types::RESERVED,
    http::{ApiError, Checks, Items, Moment, RawJson, Ref, Text, example_id, example_time},
};

const MAX_CHANNELS: usize = 20;
/// Messages in one batch at most.
const MAX_BATCH: usize = 500;

/// Notes of the sender: any JSON under names of its own.
type Metadata = BTreeMap<String, Any<Value>>;

/// What is published.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct NewMessage {
    /// What kind of event it is: endpoints choose by it. Up to 200 letters, digits and `._:/-`.
    #[oai(validator(pattern = r"^[A-Za-z0-9._:/-]{1,200}$"))]
    pub(super) event_type: String,
    /// The body of the webhook: any JSON value. It goes out byte for byte as it stands here.
    pub(super) payload: RawJson,
    /// Narrows down who gets it: endpoints that name channels get it only if they name one of these.
    #[serde(default)]
    #[oai(
        default,
        validator(max_items = 20, pattern = r"^[A-Za-z0-9._:/-]{1,200}$")
    )]
    pub(super) channels: Vec<String>,
    /// The earliest time of the first attempts, up to 365 days ahead. Without it, or in the past: now.
    #[oai(nullable)]
    pub(super) deliver_at: Option<Moment>,
    /// When it is too late to deliver it: after `deliver_at` and after now. What was not delivered by then is dead, with
    /// the reason `expired`. Without it: never.
    #[oai(nullable)]
    pub(super) expires_at: Option<Moment>,
    /// Notes of your own, which are shown with the message and never sent.
    #[oai(nullable)]
    pub(super) metadata: Option<Metadata>,
}

/// Messages to publish together.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub(crate) struct MessageBatch {
    /// 1 to 500 messages.
    pub(super) messages: Items<NewMessage, MAX_BATCH>,
}

impl Example for MessageBatch {
    fn example() -> Self {
        Self {
            messages: Items::example(),
        }
    }
}

/// When a message is to be delivered instead.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub(crate) struct RescheduleMessage {
    /// The earliest time of the first attempts, up to 365 days ahead and before `expires_at`. In the past: now.
    pub(super) deliver_at: Moment,
}

impl Example for RescheduleMessage {
    fn example() -> Self {
        Self {
            deliver_at: example_time().into(),
        }
    }
}

impl Example for NewMessage {
    fn example() -> Self {
        let payload = json!({"order_id": "42", "total": "12.50"});
        Self {
            event_type: "order.created".to_owned(),
            payload: RawJson::from_value(&payload),
            channels: vec![],
            deliver_at: None,
            expires_at: None,
            metadata: Some(BTreeMap::from([(
                "source".to_owned(),
                Any(json!("checkout")),
            )])),
        }
    }
}

impl NewMessage {
    pub(super) fn check(&self, now: Timestamp) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        checks.name("event_type", &self.event_type);
        checks.require(!is_reserved(&self.event_type), "event_type", || {
            RESERVED.to_owned()
        });
        checks.names("channels", &self.channels, MAX_CHANNELS);
        checks.due("deliver_at", self.deliver_at, now);
        checks.expiry("expires_at", self.expires_at, self.deliver_at, now);
        for (name, value) in self.metadata.iter().flatten() {
            checks.text("metadata", name);
            checks.json("metadata", &value.0);
        }
        checks.finish()
    }

    /// About how many bytes it is.
    pub(super) fn size(&self) -> usize {
        let metadata = self.metadata.iter().flatten();
        let metadata = metadata.map(|(name, value)| name.len() + value.0.to_string().len());
        self.payload.get().len() + metadata.sum::<usize>()
    }

    pub(super) fn metadata_json(&self) -> Option<Value> {
        let fields = self.metadata.as_ref()?.iter();
        Some(Value::Object(
            fields
                .map(|(name, value)| (name.clone(), value.0.clone()))
                .collect(),
        ))
    }

    pub(super) fn deliver_at(&self) -> Option<Timestamp> {
        self.deliver_at.map(|at| at.0)
    }

    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at.map(|at| at.0)
    }
}

fn metadata(stored: &Value) -> Option<Metadata> {
    let fields = stored.as_object()?.iter();
    Some(
        fields
            .map(|(name, value)| (name.clone(), Any(value.clone())))
            .collect(),
    )
}

/// A published event, with its deliveries.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Message {
    /// Its id, which is the `webhook-id` of every request that carries it.
    id: Ref<ids::Message>,
    /// What kind of event it is.
    event_type: String,
    /// The channels that narrow down who gets it.
    channels: Vec<String>,
    /// Notes of the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    /// When it was accepted.
    created_at: Moment,
    /// The earliest time of the first attempts, if the sender named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<Moment>,
    /// When it is too late to deliver it, if the sender said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Moment>,
    /// One for each endpoint that gets it.
    deliveries: Vec<Delivery>,
}

impl Message {
    pub(super) fn new(row: &store::Message, deliveries: Vec<Delivery>) -> Self {
        Self {
            id: row.id.into(),
            event_type: row.event_type.clone(),
            channels: row.channels.0.clone(),
            metadata: row.metadata.as_ref().and_then(metadata),
            created_at: row.created_at.into(),
            deliver_at: row.deliver_at.map(Text),
            expires_at: row.expires_at.map(Text),
            deliveries,
        }
    }
}

impl Example for Message {
    fn example() -> Self {
        Self {
            id: example_id().into(),
            event_type: "order.created".to_owned(),
            channels: vec![],
            metadata: NewMessage::example().metadata,
            created_at: example_time().into(),
            deliver_at: None,
            expires_at: None,
            deliveries: vec![Delivery::example()],
        }
    }
}

/// A published event, with its payload and its deliveries.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct MessageDetail {
    #[serde(flatten)]
    #[oai(flatten)]
    message: Message,
    /// What was published, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<RawJson>,
}

impl MessageDetail {
    pub(super) fn new(
        row: &store::Message,
        payload: Option<Vec<u8>>,
        deliveries: Vec<Delivery>,
    ) -> Self {
        Self {
            message: Message::new(row, deliveries),
            payload: payload.and_then(RawJson::from_bytes),
        }
    }
}

impl Example for MessageDetail {
    fn example() -> Self {
        Self {
            message: Message::example(),
            payload: Some(NewMessage::example().payload),
        }
    }
}
