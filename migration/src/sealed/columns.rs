//! The columns that hold sealed texts.

use relaypost_shared::{
    ids::{EmailId, EndpointId, OauthStateId, SecretId, TenantId},
    secrets::Place,
};
use sea_orm_migration::sea_orm::Value;
use uuid::Uuid;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A text.
    Text,
    /// A text as bytes.
    Bytes,
    /// Headers as JSON, `[["name", "value"], …]`, each of whose values is a text. All are sealed under one key.
    Headers,
}

impl Form {
    /// A text as a parameter beside this column.
    pub(super) fn value(self, text: String) -> Value {
        match self {
            Self::Bytes => text.into_bytes().into(),
            Self::Text | Self::Headers => text.into(),
        }
    }
}

/// Where an index tells which keys have sealed something. `key` and `is_sealed` are as in the indexes of the migrations (`…_key`).
pub(super) struct Indexed {
    pub(super) name: &'static str,
    pub(super) table: &'static str,
    /// The id of the key of a row.
    pub(super) key: &'static str,
    /// Whether there is one.
    pub(super) is_sealed: &'static str,
    pub(super) form: Form,
}

pub(super) const INDEXED: [Indexed; 5] = [
    Indexed {
        name: "endpoint_secrets.secret",
        table: "endpoint_secrets",
        key: "substr(secret, 9, 8)",
        is_sealed: "substr(secret, 1, 8) = 'sealed1.'",
        form: Form::Text,
    },
    Indexed {
        name: "endpoints.headers",
        table: "endpoints",
        key: "substr(headers->0->>1, 9, 8)",
        is_sealed: "substr(headers->0->>1, 1, 8) = 'sealed1.'",
        form: Form::Text,
    },
    Indexed {
        name: "idempotency_keys.response",
        table: "idempotency_keys",
        key: "substr(response, 9, 8)",
        is_sealed: "sealed",
        form: Form::Bytes,
    },
    Indexed {
        name: "email_bodies.text, email_bodies.html",
        table: "email_bodies",
        key: "substr(coalesce(text, html), 9, 8)",
        is_sealed: "sealed",
        form: Form::Text,
    },
    Indexed {
        name: "oauth_states.secrets",
        table: "oauth_states",
        key: "substr(secrets, 9, 8)",
        is_sealed: "secrets IS NOT NULL",
        form: Form::Text,
    },
];

/// A column whose texts are sealed anew.
pub(super) struct Column {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    /// The part of the primary key that is an id.
    pub(super) row: &'static str,
    /// The rest of the primary key, if there is one.
    pub(super) part: Option<&'static str>,
    /// The rows that hold secrets.
    pub(super) secret: &'static str,
    /// The text whose key tells that of the row.
    pub(super) text: &'static str,
    pub(super) form: Form,
    /// The place of a text, by the row's id and the part, or the header's name.
    pub(super) place: for<'a> fn(Uuid, &'a str) -> Place<'a>,
}

/// Every one that there is.
pub(super) const COLUMNS: [Column; 6] = [
    Column {
        table: "endpoint_secrets",
        column: "secret",
        row: "id",
        part: None,
        secret: "TRUE",
        text: "secret",
        form: Form::Text,
        place: |id, _| Place::endpoint_secret(SecretId::from_uuid(id)),
    },
    Column {
        table: "endpoints",
        column: "headers",
        row: "id",
        part: None,
        secret: "TRUE",
        text: "headers->0->>1",
        form: Form::Headers,
        place: |id, name| Place::endpoint_header(EndpointId::from_uuid(id), name),
    },
    Column {
        table: "idempotency_keys",
        column: "response",
        row: "tenant_id",
        part: Some("key"),
        secret: "sealed",
        text: "response",
        form: Form::Bytes,
        place: |tenant, key| Place::idempotent_answer(TenantId::from_uuid(tenant), key),
    },
    Column {
        table: "email_bodies",
        column: "text",
        row: "email_id",
        part: None,
        secret: "sealed",
        text: "text",
        form: Form::Text,
        place: |id, _| Place::email_text(EmailId::from_uuid(id)),
    },
    Column {
        table: "email_bodies",
        column: "html",
        row: "email_id",
        part: None,
        secret: "sealed",
        text: "html",
        form: Form::Text,
        place: |id, _| Place::email_html(EmailId::from_uuid(id)),
    },
    Column {
        table: "oauth_states",
        column: "secrets",
        row: "id",
        part: None,
        secret: "TRUE",
        text: "secrets",
        form: Form::Text,
        place: |id, _| Place::oauth_secrets(OauthStateId::from_uuid(id)),
    },
];
