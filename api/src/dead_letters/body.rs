//! A dead letter as it stands in bodies: the delivery, what it delivers, and every attempt.

use poem_openapi::{Object, types::Example};
use serde::Serialize;
use serde_json::json;

use crate::{
    deliveries::{Attempt, Delivery},
    emails::EmailContent,
    http::RawJson,
};

/// A webhook in the dead-letter queue.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct WebhookDeadLetter {
    #[serde(flatten)]
    #[oai(flatten)]
    pub(super) delivery: Delivery,
    /// What was published, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<RawJson>,
    /// Every attempt to deliver it, oldest first.
    pub(super) attempts: Vec<Attempt>,
}

impl Example for WebhookDeadLetter {
    fn example() -> Self {
        let payload = json!({"order_id": "42", "total": "12.50"});
        Self {
            delivery: Delivery::dead_example(),
            payload: Some(RawJson::from_value(&payload)),
            attempts: vec![Attempt::example()],
        }
    }
}

/// An email to one recipient in the dead-letter queue.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct EmailDeadLetter {
    #[serde(flatten)]
    #[oai(flatten)]
    pub(super) delivery: Delivery,
    /// What was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<EmailContent>,
    /// Every attempt to deliver it, oldest first.
    pub(super) attempts: Vec<Attempt>,
}

impl Example for EmailDeadLetter {
    fn example() -> Self {
        Self {
            delivery: Delivery::dead_email_example(),
            payload: Some(EmailContent::example()),
            attempts: vec![Attempt::email_example()],
        }
    }
}
