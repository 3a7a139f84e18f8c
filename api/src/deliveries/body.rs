//! A delivery and an attempt as they stand in bodies.

use poem_openapi::{Object, types::Example};
use relaypost_shared::{
    delivery::{AttemptOutcome, DeliveryKind, ErrorClass, Reason, Status},
    ids, store,
};
use serde::Serialize;

use super::parked::Parked;
use crate::http::{Moment, Ref, Text, example_id, example_time};

/// One message to one endpoint, or one email to one recipient.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct Delivery {
    /// Its id.
    id: Ref<ids::Delivery>,
    /// What is delivered.
    kind: Text<DeliveryKind>,
    /// Where it stands.
    status: Text<Status>,
    /// The endpoint that it goes to, if it is a webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<Ref<ids::Endpoint>>,
    /// The message, if it is a webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Ref<ids::Message>>,
    /// The email, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_id: Option<Ref<ids::Email>>,
    /// The address that it goes to, if it is an email.
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    /// How many attempts have ended.
    attempt_count: i32,
    /// When the next attempt is due. Without it: now, or never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Moment>,
    /// Why it is held back. Absent when it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parked: Option<Parked>,
    /// Why it is dead, or `cancelled` when its sender took it back before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Text<Reason>>,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<Text<ErrorClass>>,
    /// When it was accepted.
    created_at: Moment,
    /// When it was delivered, died or was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Moment>,
}

impl From<store::Delivery> for Delivery {
    fn from(row: store::Delivery) -> Self {
        let parked = Parked::of(&row);
        Self {
            id: row.id.into(),
            kind: row.kind.into(),
            status: row.status.into(),
            endpoint_id: row.endpoint_id.map(Text),
            message_id: row.message_id.map(Text),
            email_id: row.email_id.map(Text),
            recipient: row.recipient,
            attempt_count: row.attempt_count,
            next_attempt_at: row.next_attempt_at.map(Text),
            parked,
            reason: row.reason.map(Text),
            error_class: row.error_class.map(Text),
            created_at: row.created_at.into(),
            finished_at: row.finished_at.map(Text),
        }
    }
}

impl Delivery {
    /// The example of an email's delivery.
    pub(crate) fn email_example() -> Self {
        Self {
            kind: Text(DeliveryKind::Email),
            email_id: Some(example_id().into()),
            recipient: Some("ann@example.net".to_owned()),
            message_id: None,
            endpoint_id: None,
            error_class: Some(Text(ErrorClass::Smtp4xx)),
            ..Self::example()
        }
    }

    /// The example of a dead webhook.
    pub(crate) fn dead_example() -> Self {
        Self::example().dead(Reason::RetriesExhausted)
    }

    /// The example of a dead email.
    pub(crate) fn dead_email_example() -> Self {
        Self {
            error_class: Some(Text(ErrorClass::Smtp5xx)),
            ..Self::email_example().dead(Reason::Rejected)
        }
    }

    fn dead(self, reason: Reason) -> Self {
        Self {
            status: Text(Status::Dead),
            reason: Some(Text(reason)),
            next_attempt_at: None,
            finished_at: Some(example_time().into()),
            ..self
        }
    }
}

impl Example for Delivery {
    fn example() -> Self {
        Self {
            id: example_id().into(),
            kind: Text(DeliveryKind::Webhook),
            status: Text(Status::Pending),
            endpoint_id: Some(example_id().into()),
            message_id: Some(example_id().into()),
            email_id: None,
            recipient: None,
            attempt_count: 1,
            next_attempt_at: Some(example_time().into()),
            parked: None,
            reason: None,
            error_class: Some(Text(ErrorClass::Http5xx)),
            created_at: example_time().into(),
            finished_at: None,
        }
    }
}

/// One try to deliver.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct Attempt {
    /// Its id.
    id: Ref<ids::Attempt>,
    /// 1 for the first.
    number: i32,
    /// When it began.
    started_at: Moment,
    /// How long it took, in milliseconds.
    duration_ms: i32,
    /// How it ended.
    outcome: Text<AttemptOutcome>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<Text<ErrorClass>>,
    /// The receiver's status code: of HTTP for a webhook, of SMTP for an email.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<i32>,
    /// The beginning of the receiver's answer, or what went wrong in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    response_snippet: Option<String>,
    /// The id of the request that made the delivery.
    request_id: String,
}

impl From<store::Attempt> for Attempt {
    fn from(row: store::Attempt) -> Self {
        Self {
            id: row.id.into(),
            number: row.number,
            started_at: row.started_at.into(),
            duration_ms: row.duration_ms,
            outcome: row.outcome.into(),
            error_class: row.error_class.map(Text),
            http_status: row.http_status,
            response_snippet: row.response_snippet,
            request_id: row.request_id,
        }
    }
}

impl Attempt {
    /// The example of an email's attempt.
    pub(crate) fn email_example() -> Self {
        Self {
            error_class: Some(Text(ErrorClass::Smtp5xx)),
            http_status: Some(554),
            response_snippet: Some("refused".to_owned()),
            ..Self::example()
        }
    }
}

impl Example for Attempt {
    fn example() -> Self {
        Self {
            id: example_id().into(),
            number: 1,
            started_at: example_time().into(),
            duration_ms: 182,
            outcome: Text(AttemptOutcome::Failed),
            error_class: Some(Text(ErrorClass::Http5xx)),
            http_status: Some(503),
            response_snippet: Some("out of order".to_owned()),
            request_id: example_id::<ids::Request>().to_string(),
        }
    }
}
