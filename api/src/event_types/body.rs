//! An event type as it stands in bodies.

use std::fmt;

use poem_openapi::{
    Object,
    registry::MetaSchema,
    types::{Any, Example, MaybeUndefined},
};
use relaypost_shared::{
    clock::Timestamp,
    delivery::is_reserved,
    entities::event_type,
    ids::{self, EventTypeId, TenantId},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Checks, Moment, Ref, Text, TextValue, example_id, example_time};

/// What stands in a name that only Relaypost uses.
pub(crate) const RESERVED: &str = "is an event type of Relaypost's own, which cannot be published";

/// What an event type is registered from.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewEventType {
    /// Its name, unique among the types of its owner. Up to 200 letters, digits and `._:/-`.
    #[oai(validator(pattern = r"^[A-Za-z0-9._:/-]{1,200}$"))]
    pub(super) name: String,
    /// What it means.
    #[oai(
        validator(max_length = 1000, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"),
        nullable
    )]
    description: Option<String>,
    /// A JSON Schema that every payload of this type has to fit: an object, up to 64 KiB, of the draft that its `$schema`
    /// names, else of 2020-12. It can refer to parts of itself only; nothing is ever fetched. `format` is checked.
    /// Patterns know no look-around and no back-references. At most 20,000 schemas apply to one value, all alternatives and
    /// references together, and none refers to itself for the same value.
    #[oai(nullable)]
    schema: Option<Any<Value>>,
}

impl Example for NewEventType {
    fn example() -> Self {
        Self {
            name: "order.created".to_owned(),
            description: Some("Somebody has ordered something.".to_owned()),
            schema: Some(Any(json!({
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "total": {"type": "string"}},
                "required": ["order_id"],
            }))),
        }
    }
}

impl NewEventType {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.name("name", &self.name);
        checks.require(!is_reserved(&self.name), "name", || RESERVED.to_owned());
        check(checks, self.description.as_deref(), self.schema());
    }

    pub(super) fn schema(&self) -> Option<&Value> {
        self.schema.as_ref().map(|schema| &schema.0)
    }

    pub(super) fn into_row(self, tenant: TenantId, now: Timestamp) -> event_type::Model {
        event_type::Model {
            id: EventTypeId::generate(now),
            tenant_id: tenant,
            name: self.name,
            description: self.description,
            schema: self.schema.map(|schema| schema.0),
            schema_version: 1,
            created_at: now,
            archived_at: None,
        }
    }
}

fn check(checks: &mut Checks, description: Option<&str>, schema: Option<&Value>) {
    if let Some(description) = description {
        checks.line("description", description, 0..=1000);
    }
    if let Some(schema) = schema {
        checks.json("schema", schema);
    }
}

/// What changes about an event type. A field that is left out stays as it is.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields, default)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct EventTypeChanges {
    /// What it means; null: nothing.
    #[oai(
        validator(max_length = 1000, pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"),
        nullable
    )]
    pub(super) description: MaybeUndefined<String>,
    /// The JSON Schema of its payloads; null: any payload will do.
    #[oai(nullable)]
    pub(super) schema: MaybeUndefined<Any<Value>>,
    /// `true`: nothing of this type can be published any more. `false`: it can be published again.
    pub(super) archived: MaybeUndefined<bool>,
}

impl Default for EventTypeChanges {
    fn default() -> Self {
        Self {
            description: MaybeUndefined::Undefined,
            schema: MaybeUndefined::Undefined,
            archived: MaybeUndefined::Undefined,
        }
    }
}

impl Example for EventTypeChanges {
    fn example() -> Self {
        Self {
            description: MaybeUndefined::Value("Somebody has ordered something.".to_owned()),
            ..Self::default()
        }
    }
}

impl EventTypeChanges {
    pub(super) fn check(&self, checks: &mut Checks) {
        let description = self.description.value().map(String::as_str);
        check(checks, description, self.schema());
        checks.require(!self.archived.is_null(), "archived", || {
            "expected true or false, not null".to_owned()
        });
    }

    pub(super) fn schema(&self) -> Option<&Value> {
        self.schema.value().map(|schema| &schema.0)
    }
}

/// Who has registered an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The tenant, for itself.
    Tenant,
    /// The platform, for all tenants.
    Platform,
}

impl Owner {
    const ALL: [Self; 2] = [Self::Tenant, Self::Platform];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Platform => "platform",
        }
    }

    fn of(row: &event_type::Model) -> Self {
        if row.tenant_id == TenantId::OWN {
            Self::Platform
        } else {
            Self::Tenant
        }
    }
}

impl TextValue for Owner {
    const SCHEMA_NAME: Option<&'static str> = Some("EventTypeOwner");

    fn schema() -> MetaSchema {
        MetaSchema {
            enum_items: Self::ALL
                .iter()
                .map(|owner| json!(owner.as_str()))
                .collect(),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|owner| owner.as_str() == text);
        found.ok_or_else(|| "expected `tenant` or `platform`".to_owned())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind of event that a tenant publishes.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct EventType {
    /// Its id.
    id: Ref<ids::EventType>,
    /// Its name.
    name: String,
    /// `tenant`: the tenant has registered it. `platform`: the platform has, for all tenants, and only it can change it.
    owner: Text<Owner>,
    /// What it means.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The JSON Schema of its payloads. Without it any payload will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Any<Value>>,
    /// When it was registered.
    created_at: Moment,
    /// When it was archived. Nothing of an archived type can be published.
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_at: Option<Moment>,
}

impl From<event_type::Model> for EventType {
    fn from(row: event_type::Model) -> Self {
        Self {
            id: row.id.into(),
            owner: Owner::of(&row).into(),
            name: row.name,
            description: row.description,
            schema: row.schema.map(Any),
            created_at: row.created_at.into(),
            archived_at: row.archived_at.map(Text),
        }
    }
}

impl Example for EventType {
    fn example() -> Self {
        let row = NewEventType::example().into_row(example_id(), example_time());
        event_type::Model {
            id: example_id(),
            ..row
        }
        .into()
    }
}
