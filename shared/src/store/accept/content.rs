//! The contents of deliveries: messages with their payloads, and emails with their texts.

use sea_orm::{DbErr, EntityTrait, ModelTrait};
use uuid::Uuid;

use super::{
    Entry,
    at_once::{Query, bind_emails, bind_messages},
    columns,
};
use crate::{
    ids::TenantId,
    store::{Email, EmailBody, Message, Payload},
};

/// A row that deliveries carry: a message or an email.
pub trait Content: ModelTrait<Entity: EntityTrait<Model = Self>> + Send + Sync {
    /// The row of what is sent, in a table of its own.
    type Body: ModelTrait<Entity: EntityTrait<Model = Self::Body>> + Send + Sync;

    /// The tenant that it belongs to.
    fn tenant(&self) -> TenantId;

    /// Its id.
    fn id(&self) -> Uuid;

    /// The statement of PostgreSQL that stores entries of this kind.
    fn statement() -> &'static str;

    /// Binds the columns of these rows, in the order in which the statement names them.
    ///
    /// # Errors
    /// When a value cannot be written as JSON.
    fn bind<'a>(query: Query<'a>, entries: &[&'a Entry<Self>]) -> Result<Query<'a>, DbErr>;
}

impl Content for Message {
    type Body = Payload;

    fn tenant(&self) -> TenantId {
        self.tenant_id
    }

    fn id(&self) -> Uuid {
        self.id.uuid()
    }

    fn statement() -> &'static str {
        &columns::MESSAGES
    }

    fn bind<'a>(query: Query<'a>, entries: &[&'a Entry<Self>]) -> Result<Query<'a>, DbErr> {
        bind_messages(query, entries)
    }
}

impl Content for Email {
    type Body = EmailBody;

    fn tenant(&self) -> TenantId {
        self.tenant_id
    }

    fn id(&self) -> Uuid {
        self.id.uuid()
    }

    fn statement() -> &'static str {
        &columns::EMAILS
    }

    fn bind<'a>(query: Query<'a>, entries: &[&'a Entry<Self>]) -> Result<Query<'a>, DbErr> {
        bind_emails(query, entries)
    }
}
