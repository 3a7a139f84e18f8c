//! The audit log: an entry for what somebody did by hand, in the transaction that does it.

use std::fmt;

use relaypost_shared::{
    clock::Timestamp,
    entities::audit_log,
    ids::{AuditEntryId, TenantId},
};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _};

use crate::{
    auth::{Actor, may::ForTenant},
    http::request_id::RequestId,
};

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
    /// An endpoint was created.
    EndpointCreated,
    /// An endpoint was changed.
    EndpointChanged,
    /// An endpoint was deleted.
    EndpointDeleted,
    /// An endpoint got a new signing secret.
    EndpointSecretRotated,
    /// Somebody looked at an endpoint's signing secret.
    EndpointSecretRead,
    /// An event type was registered.
    EventTypeCreated,
    /// An event type was changed.
    EventTypeChanged,
    /// An event type was archived.
    EventTypeArchived,
    /// A tenant was created.
    TenantCreated,
    /// A tenant was given another name.
    TenantChanged,
    /// An API key was created.
    ApiKeyCreated,
    /// An API key got a successor, and ends when its grace does.
    ApiKeyRotated,
    /// An API key was revoked.
    ApiKeyRevoked,
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
            Self::EndpointCreated => "endpoint.created",
            Self::EndpointChanged => "endpoint.changed",
            Self::EndpointDeleted => "endpoint.deleted",
            Self::EndpointSecretRotated => "endpoint.secret_rotated",
            Self::EndpointSecretRead => "endpoint.secret_read",
            Self::EventTypeCreated => "event_type.created",
            Self::EventTypeChanged => "event_type.changed",
            Self::EventTypeArchived => "event_type.archived",
            Self::TenantCreated => "tenant.created",
            Self::TenantChanged => "tenant.changed",
            Self::ApiKeyCreated => "api_key.created",
            Self::ApiKeyRotated => "api_key.rotated",
            Self::ApiKeyRevoked => "api_key.revoked",
        }
    }
}

/// Who does something, in which request.
#[derive(Clone, Debug)]
pub(crate) struct By {
    /// Who acts.
    pub(crate) actor: Actor,
    /// The id of the request.
    pub(crate) request_id: RequestId,
}

/// Writes down that `caller` did this to `target`, a thing of its tenant.
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
    let by = By {
        actor: caller.actor,
        request_id: caller.request_id.clone(),
    };
    record_by(tx, &by, Some(caller.tenant), action, target, now).await
}

/// Writes down that somebody did this to `target`, a thing of this tenant or, without one, of the platform.
///
/// # Errors
/// When the database fails.
pub(crate) async fn record_by(
    tx: &impl ConnectionTrait,
    by: &By,
    tenant: Option<TenantId>,
    action: Action,
    target: impl fmt::Display,
    now: Timestamp,
) -> Result<(), DbErr> {
    let entry = audit_log::Model {
        id: AuditEntryId::generate(now),
        tenant_id: tenant,
        actor: by.actor.to_string(),
        action: action.as_str().to_owned(),
        target: target.to_string(),
        request_id: by.request_id.to_string(),
        created_at: now,
    };
    audit_log::Entity::insert(entry.into_active_model())
        .exec_without_returning(tx)
        .await
        .map(|_| ())
}
