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

/// Who did something, and in which request.
#[derive(Clone, Debug)]
pub(crate) struct By {
    /// Who.
    pub(crate) actor: Actor,
    /// In which request.
    pub(crate) request_id: RequestId,
}

impl By {
    /// Done by `actor` in this request.
    pub(crate) fn new(actor: Actor, request_id: &RequestId) -> Self {
        Self {
            actor,
            request_id: request_id.clone(),
        }
    }
}

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
    /// Somebody signed in.
    SignedIn,
    /// A sign-in failed.
    SignInFailed,
    /// Too many sign-ins failed: none is taken for a while.
    SignInLocked,
    /// An administrator lifted the lock.
    SignInUnlocked,
    /// Somebody signed out.
    SignedOut,
    /// A refresh token came twice, and its session was ended.
    TokenReused,
    /// Somebody changed their password.
    PasswordChanged,
    /// Somebody chose a new password by a mailed link.
    PasswordReset,
    /// Somebody asked for a link to choose a new password.
    PasswordResetRequested,
    /// Somebody showed that an address is theirs.
    EmailVerified,
    /// A user was created.
    UserCreated,
    /// A user was changed.
    UserChanged,
    /// A user was disabled.
    UserDisabled,
    /// A user may sign in again.
    UserEnabled,
    /// A user was deleted.
    UserDeleted,
    /// A user got a role in a tenant.
    MemberAdded,
    /// A user got another role in a tenant.
    MemberChanged,
    /// A user lost their role in a tenant.
    MemberRemoved,
    /// An account at a provider was linked with a user.
    IdentityLinked,
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
            Self::SignedIn => "session.began",
            Self::SignInFailed => "sign_in.failed",
            Self::SignInLocked => "sign_in.locked",
            Self::SignInUnlocked => "sign_in.unlocked",
            Self::SignedOut => "session.ended",
            Self::TokenReused => "session.token_reused",
            Self::PasswordChanged => "password.changed",
            Self::PasswordReset => "password.reset",
            Self::PasswordResetRequested => "password.reset_requested",
            Self::EmailVerified => "email.verified",
            Self::UserCreated => "user.created",
            Self::UserChanged => "user.changed",
            Self::UserDisabled => "user.disabled",
            Self::UserEnabled => "user.enabled",
            Self::UserDeleted => "user.deleted",
            Self::MemberAdded => "member.added",
            Self::MemberChanged => "member.changed",
            Self::MemberRemoved => "member.removed",
            Self::IdentityLinked => "identity.linked",
        }
    }
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
    let by = By::new(caller.actor, &caller.request_id);
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
    let entry = entry(by, tenant, action, &target, now);
    write(tx, entry).await
}

/// The same with what exactly was done, where that does not stay with the target: `role=viewer`.
///
/// # Errors
/// When the database fails.
pub(crate) async fn record_detail(
    tx: &impl ConnectionTrait,
    by: &By,
    tenant: Option<TenantId>,
    (action, detail): (Action, String),
    target: impl fmt::Display,
    now: Timestamp,
) -> Result<(), DbErr> {
    let entry = audit_log::Model {
        detail: Some(detail),
        ..entry(by, tenant, action, &target, now)
    };
    write(tx, entry).await
}

fn entry(
    by: &By,
    tenant: Option<TenantId>,
    action: Action,
    target: &dyn fmt::Display,
    now: Timestamp,
) -> audit_log::Model {
    audit_log::Model {
        id: AuditEntryId::generate(now),
        tenant_id: tenant,
        actor: by.actor.to_string(),
        action: action.as_str().to_owned(),
        target: target.to_string(),
        request_id: by.request_id.to_string(),
        client_address: Some(by.request_id.client().to_string()),
        detail: None,
        created_at: now,
    }
}

async fn write(tx: &impl ConnectionTrait, entry: audit_log::Model) -> Result<(), DbErr> {
    audit_log::Entity::insert(entry.into_active_model())
        .exec_without_returning(tx)
        .await
        .map(|_| ())
}
