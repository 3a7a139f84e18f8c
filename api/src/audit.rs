//! The audit log: an entry for what somebody did by hand, in the transaction that does it.

use std::fmt;

use relaypost_shared::{clock::Timestamp, entities::audit_log, ids::AuditEntryId};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _};

use crate::auth::may::ForTenant;

/// What was done. The words are stored, so none is renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A dead letter was sent off again.
    Replayed,
    /// A dead letter was given up for good.
    Discarded,
    /// A delivery that waited was made due.
    Retried,
    /// An endpoint was paused.
    EndpointPaused,
    /// An endpoint was resumed.
    EndpointResumed,
    /// A circuit was opened.
    CircuitOpened,
    /// A circuit was closed.
    CircuitClosed,
    /// A message was cancelled before its time.
    MessageCancelled,
    /// A message was given another time.
    MessageRescheduled,
    /// An email was cancelled before its time.
    EmailCancelled,
    /// An email was given another time.
    EmailRescheduled,
    /// A job was made that replays dead letters.
    ReplayCreated,
    /// A job was made that discards dead letters.
    DiscardCreated,
    /// A job was made that sends an endpoint what it has missed.
    RecoverCreated,
    /// A job was cancelled.
    ReplayCancelled,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "dead_letter.replayed",
            Self::Discarded => "dead_letter.discarded",
            Self::Retried => "delivery.retried",
            Self::EndpointPaused => "endpoint.paused",
            Self::EndpointResumed => "endpoint.resumed",
            Self::CircuitOpened => "circuit.opened",
            Self::CircuitClosed => "circuit.closed",
            Self::MessageCancelled => "message.cancelled",
            Self::MessageRescheduled => "message.rescheduled",
            Self::EmailCancelled => "email.cancelled",
            Self::EmailRescheduled => "email.rescheduled",
            Self::ReplayCreated => "replay.created",
            Self::DiscardCreated => "discard.created",
            Self::RecoverCreated => "recover.created",
            Self::ReplayCancelled => "replay.cancelled",
        }
    }
}

/// Writes down that `caller` did this to `target`.
///
/// # Errors
/// When the database fails.
pub(crate) async fn record(
    tx: &impl ConnectionTrait,
    caller: &ForTenant,
    action: Action,
    target: impl fmt::Display,
    now: Timestamp,
) -> Result<(), DbErr> {
    let entry = audit_log::Model {
        id: AuditEntryId::generate(now),
        tenant_id: Some(caller.tenant),
        actor: caller.actor.to_string(),
        action: action.as_str().to_owned(),
        target: target.to_string(),
        request_id: caller.request_id.to_string(),
        created_at: now,
    };
    audit_log::Entity::insert(entry.into_active_model())
        .exec_without_returning(tx)
        .await
        .map(|_| ())
}
