//! A user as they stand in bodies.

use poem_openapi::{
    Object,
    types::{Example, MaybeUndefined},
};
use relaypost_shared::{
    entities::{membership, user},
    ids,
    people::Role,
};
use serde::{Deserialize, Serialize};

use crate::{
    http::{ApiError, Checks, Moment, Ref, Text, example_id, example_time},
    people::passwords,
};

const MAX_MEMBERSHIPS: usize = 100;

/// What a user is created from.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewUser {
    /// Their address, which no other user has. Upper and lower case are the same.
    #[oai(validator(max_length = 254))]
    pub(super) email: String,
    /// What people call them.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub(super) name: Option<String>,
    /// Their first password: 12 to 128 characters. Without one they choose it by `auth_password_forgot`, or sign in through
    /// a provider.
    #[oai(validator(min_length = 12, max_length = 128))]
    pub(super) password: Option<String>,
    /// Whether they may do everything, of every tenant.
    #[serde(default)]
    #[oai(default)]
    pub(super) platform: bool,
    /// What they may do where. Up to 100.
    #[serde(default)]
    #[oai(default, validator(max_items = 100))]
    pub(super) memberships: Vec<Membership>,
}

/// A role in a tenant.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example)]
pub(super) struct Membership {
    /// The tenant.
    pub(super) tenant_id: Ref<ids::Tenant>,
    /// What they may do there.
    pub(super) role: Text<Role>,
}

impl Example for Membership {
    fn example() -> Self {
        Self {
            tenant_id: example_id().into(),
            role: Text(Role::Operator),
        }
    }
}

impl Example for NewUser {
    fn example() -> Self {
        Self {
            email: "ann@example.com".to_owned(),
            name: Some("Ann Lee".to_owned()),
            password: Some("correct horse battery staple".to_owned()),
            platform: false,
            memberships: vec![Membership::example()],
        }
    }
}

impl NewUser {
    /// Checks everything but the address, which is given in its stored form.
    pub(super) fn check(&self, address: &str) -> Result<(), ApiError> {
        let mut checks = Checks::default();
        if let Some(name) = &self.name {
            checks.line("name", name, 1..=200);
        }
        if let Some(password) = &self.password {
            passwords::check_new(&mut checks, "password", password, address);
        }
        checks.require(
            self.memberships.len() <= MAX_MEMBERSHIPS,
            "memberships",
            || format!("expected at most {MAX_MEMBERSHIPS}"),
        );
        let mut tenants: Vec<_> = self.memberships.iter().map(|one| one.tenant_id.0).collect();
        tenants.sort_unstable();
        tenants.dedup();
        checks.require(
            tenants.len() == self.memberships.len(),
            "memberships",
            || "a tenant is named twice".to_owned(),
        );
        checks.finish()
    }
}

/// What is changed of a user; what is left out stays as it is.
#[derive(Deserialize, Object)]
#[serde(deny_unknown_fields, default)]
#[oai(example)]
pub(super) struct UserChanges {
    /// What people call them; null: nothing.
    #[oai(validator(min_length = 1, max_length = 200), nullable)]
    pub(super) name: MaybeUndefined<String>,
    /// A new password: 12 to 128 characters. Ends their sessions.
    #[oai(validator(min_length = 12, max_length = 128))]
    pub(super) password: MaybeUndefined<String>,
    /// Whether they may do everything, of every tenant.
    pub(super) platform: MaybeUndefined<bool>,
    /// `true`: they may not sign in any more, and their sessions end. `false`: they may again.
    pub(super) disabled: MaybeUndefined<bool>,
}

impl Default for UserChanges {
    fn default() -> Self {
        Self {
            name: MaybeUndefined::Undefined,
            password: MaybeUndefined::Undefined,
            platform: MaybeUndefined::Undefined,
            disabled: MaybeUndefined::Undefined,
        }
    }
}

impl Example for UserChanges {
    fn example() -> Self {
        Self {
            disabled: MaybeUndefined::Value(true),
            ..Self::default()
        }
    }
}

/// Somebody who signs in.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct User {
    /// Their id.
    id: Ref<ids::User>,
    /// Their address, in lower case.
    email: String,
    /// What people call them.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Whether they may do everything, of every tenant.
    platform: bool,
    /// Whether they have a password. The password itself is shown nowhere.
    has_password: bool,
    /// What they may do where.
    memberships: Vec<Membership>,
    /// When they showed that the address is theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified_at: Option<Moment>,
    /// Since when they may not sign in.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Moment>,
    /// When they last signed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_signed_in_at: Option<Moment>,
    /// When they were created.
    created_at: Moment,
    /// When they were last changed.
    updated_at: Moment,
}

impl User {
    pub(super) fn new(row: user::Model, roles: &[membership::Model]) -> Self {
        let own = roles.iter().filter(|role| role.user_id == row.id);
        Self {
            id: row.id.into(),
            email: row.email,
            name: row.name,
            platform: row.platform,
            has_password: row.password_hash.is_some(),
            memberships: own
                .map(|role| Membership {
                    tenant_id: role.tenant_id.into(),
                    role: Text(role.role),
                })
                .collect(),
            email_verified_at: row.email_verified_at.map(Text),
            disabled_at: row.disabled_at.map(Text),
            last_signed_in_at: row.last_signed_in_at.map(Text),
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        }
    }
}

impl Example for User {
    fn example() -> Self {
        let new = NewUser::example();
        Self {
            id: example_id().into(),
            email: new.email,
            name: new.name,
            platform: new.platform,
            has_password: true,
            memberships: new.memberships,
            email_verified_at: Some(example_time().into()),
            disabled_at: None,
            last_signed_in_at: None,
            created_at: example_time().into(),
            updated_at: example_time().into(),
        }
    }
}
