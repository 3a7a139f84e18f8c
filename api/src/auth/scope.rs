//! What keys may do, and what operations ask for.

use std::fmt;

use poem_openapi::registry::MetaSchema;
use relaypost_shared::people::Role;
use serde_json::json;

use crate::http::TextValue;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scope {
    /// Publish messages and send emails.
    Send,
    /// See messages, emails, endpoints and deliveries.
    Read,
    /// Change endpoints and see their secrets; replay, discard and retry deliveries.
    Manage,
    /// All of the above, and the tenant's API keys.
    Admin,
    /// Everything, of every tenant.
    Platform,
}

impl Scope {
    /// The scopes that a tenant's key can have.
    pub(crate) const OF_TENANTS: [Self; 4] = [Self::Send, Self::Read, Self::Manage, Self::Admin];

    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Manage => "manage",
            Self::Admin => "admin",
            Self::Platform => "platform",
        }
    }

    /// Whether who has `self` may do what asks for `wanted`.
    pub(crate) const fn implies(self, wanted: Self) -> bool {
        match self {
            Self::Platform => true,
            Self::Admin => !matches!(wanted, Self::Platform),
            Self::Send => matches!(wanted, Self::Send),
            Self::Read => matches!(wanted, Self::Read),
            Self::Manage => matches!(wanted, Self::Manage),
        }
    }

    /// What a role comes to: roles are sets of scopes, so that people and programs ask the same table.
    pub(crate) fn of_role(role: Role) -> Vec<Self> {
        match role {
            Role::Viewer => vec![Self::Read],
            Role::Operator => vec![Self::Send, Self::Read, Self::Manage],
            Role::Admin => vec![Self::Admin],
        }
    }

    /// The scope with this word, `platform` included.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::OF_TENANTS
            .into_iter()
            .chain([Self::Platform])
            .find(|scope| scope.as_str() == word)
    }
}

/// As it stands in bodies: a tenant's key cannot have the scope `platform`.
impl TextValue for Scope {
    const SCHEMA_NAME: Option<&'static str> = Some("Scope");

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some(
                "`send`: publish messages and send emails. `read`: see messages, emails, endpoints and deliveries. \
                 `manage`: change endpoints and see their secrets; replay, discard and retry deliveries. `admin`: all of \
                 these, and the tenant's API keys.",
            ),
            enum_items: Self::OF_TENANTS.map(|scope| json!(scope.as_str())).into(),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::from_word(text)
            .filter(|scope| *scope != Self::Platform)
            .ok_or_else(|| "expected one of send, read, manage, admin".to_owned())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an operation asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// This scope, within the tenant of the key or of the header `X-Tenant-Id`.
    Tenant(Scope),
    /// The scope `admin`, within the tenant that the path names.
    TenantInPath,
    /// The scope `platform`.
    Platform,
    /// A session of a user, whatever they may do.
    SignedIn,
}

impl Access {
    /// Every kind of access that an operation asks for.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Tenant(Scope::Send),
        Self::Tenant(Scope::Read),
        Self::Tenant(Scope::Manage),
        Self::Tenant(Scope::Admin),
        Self::TenantInPath,
        Self::Platform,
        Self::SignedIn,
    ];

    /// The scope that is asked for, if any is.
    pub(crate) const fn scope(self) -> Option<Scope> {
        match self {
            Self::Tenant(scope) => Some(scope),
            Self::TenantInPath => Some(Scope::Admin),
            Self::Platform => Some(Scope::Platform),
            Self::SignedIn => None,
        }
    }

    /// The mark that its extractor leaves for `http::declared` to find.
    pub(crate) const fn marker(self) -> &'static str {
        match self {
            Self::Tenant(scope) => scope.as_str(),
            Self::TenantInPath => "tenant in path",
            Self::Platform => "platform operator",
            Self::SignedIn => "signed in",
        }
    }
}
