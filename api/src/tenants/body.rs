//! A tenant as it stands in bodies.

use poem_openapi::{
    Object,
    types::{Example, MaybeUndefined},
};
use relaypost_shared::{
    clock::Timestamp,
    delivery::EmailOnUncertain,
    entities::tenant,
    ids::{self, TenantId},
};
use sea_orm::{ActiveModelTrait as _, Set};
use serde::{Deserialize, Serialize};

use crate::http::{ApiError, Checks, ExternalId, Moment, Ref, Text, example_id, example_time};

/// What a tenant is created from.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct NewTenant {
    /// The id that your product knows it by: up to 255 letters, digits and `._:@-`, beginning with a letter or digit. No
    /// two tenants have the same, and ids of Relaypost (`ten_…`) are refused. `X-Tenant-Id` takes it instead of the id.
    #[oai(nullable)]
    pub(super) external_id: Option<Text<ExternalId>>,
    /// What people call it.
    #[oai(validator(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"
    ))]
    name: String,
    /// What happens to an email that the mail server may have accepted, because its answer to the content never came.
    /// `hold` (the default): the delivery is dead with the reason `uncertain`, and nothing is sent until an operator
    /// replays it. `resend`: it is sent again by the retry schedule, and the recipient may get it twice.
    #[oai(nullable)]
    email_on_uncertain: Option<Text<EmailOnUncertain>>,
}

impl Example for NewTenant {
    fn example() -> Self {
        Self {
            external_id: None,
            name: "Acme".to_owned(),
            email_on_uncertain: Some(Text(EmailOnUncertain::Hold)),
        }
    }
}

impl NewTenant {
    pub(super) fn check(&self) -> Result<(), ApiError> {
        check_name(&self.name)
    }

    pub(super) fn into_row(self, now: Timestamp) -> tenant::Model {
        tenant::Model {
            id: TenantId::generate(now),
            external_id: self.external_id.map(|id| id.0.into_string()),
            name: self.name,
            class: tenant::STANDARD.to_owned(),
            created_at: now,
            dlq_warned_at: None,
            email_on_uncertain: self
                .email_on_uncertain
                .map_or(EmailOnUncertain::Hold, |choice| choice.0),
        }
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let mut checks = Checks::default();
    checks.line("name", name, 1..=200);
    checks.finish()
}

/// What changes about a tenant.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields, default)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct TenantChanges {
    /// The id that your product knows it by; null: none. Left out it stays as it is.
    #[oai(nullable)]
    external_id: MaybeUndefined<Text<ExternalId>>,
    /// What people call it. Left out it stays as it is.
    #[oai(validator(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"
    ))]
    name: MaybeUndefined<String>,
    /// What happens to an email that the mail server may have accepted: `hold` or `resend`, as at the tenant's creation.
    /// It applies to attempts that end from now on. Left out it stays as it is.
    email_on_uncertain: MaybeUndefined<Text<EmailOnUncertain>>,
}

impl Default for TenantChanges {
    fn default() -> Self {
        Self {
            external_id: MaybeUndefined::Undefined,
            name: MaybeUndefined::Undefined,
            email_on_uncertain: MaybeUndefined::Undefined,
        }
    }
}

impl TenantChanges {
    /// The columns that change, or nothing when no field was given.
    ///
    /// # Errors
    /// 422 for a name that is none, and for null where there has to be a value.
    pub(super) fn into_changes(self) -> Result<Option<tenant::ActiveModel>, ApiError> {
        let mut changes: tenant::ActiveModel = Default::default();
        match self.external_id {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => changes.external_id = Set(None),
            MaybeUndefined::Value(id) => changes.external_id = Set(Some(id.0.into_string())),
        }
        if let Some(name) = given(self.name, "name", "expected a name, not null")? {
            check_name(&name)?;
            changes.name = Set(name);
        }
        let expected = "expected `hold` or `resend`, not null";
        if let Some(choice) = given(self.email_on_uncertain, "email_on_uncertain", expected)? {
            changes.email_on_uncertain = Set(choice.0);
        }
        Ok(changes.is_changed().then_some(changes))
    }
}

/// The new value of a field that cannot be null, if it changes.
fn given<T>(
    field: MaybeUndefined<T>,
    path: &str,
    expected: &'static str,
) -> Result<Option<T>, ApiError> {
    match field {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(ApiError::field(path, expected)),
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

impl Example for TenantChanges {
    fn example() -> Self {
        Self {
            name: MaybeUndefined::Value("Acme Europe".to_owned()),
            email_on_uncertain: MaybeUndefined::Value(Text(EmailOnUncertain::Resend)),
            ..Self::default()
        }
    }
}

/// Whom endpoints, messages and emails belong to.
#[derive(Debug, Serialize, Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Tenant {
    /// Its id.
    id: Ref<ids::Tenant>,
    /// The id that your product knows it by.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// What people call it.
    name: String,
    /// What happens to an email that the mail server may have accepted: `hold`, it waits for an operator; `resend`, it is
    /// sent again.
    email_on_uncertain: Text<EmailOnUncertain>,
    /// When it was created.
    created_at: Moment,
}

impl From<tenant::Model> for Tenant {
    fn from(row: tenant::Model) -> Self {
        Self {
            id: row.id.into(),
            external_id: row.external_id,
            name: row.name,
            email_on_uncertain: row.email_on_uncertain.into(),
            created_at: row.created_at.into(),
        }
    }
}

impl Example for Tenant {
    fn example() -> Self {
        Self {
            id: example_id().into(),
            external_id: Some("customer-42".to_owned()),
            name: NewTenant::example().name,
            email_on_uncertain: Text(EmailOnUncertain::Hold),
            created_at: example_time().into(),
        }
    }
}
