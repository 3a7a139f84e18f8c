//! Tenants.

use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    types::{Example, MaybeUndefined},
};
use relaypost_shared::{
    db::begin_write,
    delivery::EmailOnUncertain,
    entities::tenant,
    ids::{self, TenantId},
};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    sea_query::Expr,
};
use serde::{Deserialize, Serialize};

use crate::{
    Services,
    audit::{self, Action},
    auth::{Authorized, may},
    http::{
        ApiError, Checks, Cursor, Limit, Moment, Page, Paging, Recorded, Ref, Reply, StrictJson,
        Text, document::Tag, example_id, example_time, to_bytes,
    },
    idempotency::{Begun, IdempotencyKey, Once},
};

/// What a tenant is created from.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
#[oai(example, skip_serializing_if_is_none)]
struct NewTenant {
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
            name: "Acme".to_owned(),
            email_on_uncertain: Some(Text(EmailOnUncertain::Hold)),
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
struct TenantChanges {
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
            name: MaybeUndefined::Undefined,
            email_on_uncertain: MaybeUndefined::Undefined,
        }
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
        }
    }
}

/// Whom endpoints, messages and emails belong to.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
struct Tenant {
    /// Its id.
    id: Ref<ids::Tenant>,
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
            name: NewTenant::example().name,
            email_on_uncertain: Text(EmailOnUncertain::Hold),
            created_at: example_time().into(),
        }
    }
}

/// The operations on tenants.
#[derive(Debug)]
pub(crate) struct TenantsApi;

#[OpenApi(prefix_path = "/v1/tenants", tag = "Tag::Tenants")]
impl TenantsApi {
    /// Create a tenant
    ///
    /// It begins with no keys: create its first one with `api_keys_create`.
    #[oai(path = "/", method = "post", operation_id = "tenants_create")]
    async fn create(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        #[oai(name = "Idempotency-Key")] key: IdempotencyKey,
        body: StrictJson<NewTenant>,
    ) -> Result<Recorded<Tenant>, ApiError> {
        let new = body.value;
        check_name(&new.name)?;
        // Here is no tenant yet, and so the platform's own remembers the answer.
        let keyed = key.of("POST /v1/tenants", &body.bytes);
        let once = match Once::begin(services, TenantId::OWN, keyed).await? {
            Begun::Done(accepted) => return Ok(accepted.into()),
            Begun::Work(once) => once,
        };
        let now = once.now();
        let row = tenant::Model {
            id: TenantId::generate(now),
            name: new.name,
            created_at: now,
            dlq_warned_at: None,
            email_on_uncertain: new
                .email_on_uncertain
                .map_or(EmailOnUncertain::Hold, |choice| choice.0),
        };
        tenant::Entity::insert(row.clone().into_active_model())
            .exec_without_returning(once.tx())
            .await?;
        let (action, tenant) = (Action::TenantCreated, Some(row.id));
        audit::record_by(once.tx(), &operator, tenant, action, row.id, now).await?;
        Ok(once.finish(to_bytes(&Tenant::from(row))?).await?.into())
    }

    /// List tenants
    ///
    /// All of the platform.
    #[oai(path = "/", method = "get", operation_id = "tenants_list")]
    async fn list(
        &self,
        Data(services): Data<&Services>,
        _caller: Authorized<may::OperatePlatform>,
        limit: Query<Option<Limit>>,
        cursor: Query<Option<Text<Cursor>>>,
    ) -> Result<Reply<Page<Tenant>>, ApiError> {
        let page = Paging::new(limit.0, cursor.0)
            .load(
                &services.db,
                tenant::Entity::find(),
                tenant::Column::Id,
                |row| row.id,
            )
            .await?;
        Reply::of(&page.map(Tenant::from))
    }

    /// Get a tenant
    ///
    /// By its id; what belongs to it has operations of its own.
    #[oai(path = "/:tenant_id", method = "get", operation_id = "tenants_get")]
    async fn get(
        &self,
        Data(services): Data<&Services>,
        _caller: Authorized<may::OperatePlatform>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
    ) -> Result<Reply<Tenant>, ApiError> {
        Reply::of(&find(&services.db, tenant_id.0.0).await?.into())
    }

    /// Change a tenant
    ///
    /// A field that is left out stays as it is.
    #[oai(
        path = "/:tenant_id",
        method = "patch",
        operation_id = "tenants_update"
    )]
    async fn update(
        &self,
        Data(services): Data<&Services>,
        operator: Authorized<may::OperatePlatform>,
        /// The tenant.
        tenant_id: Path<Ref<ids::Tenant>>,
        body: StrictJson<TenantChanges>,
    ) -> Result<Reply<Tenant>, ApiError> {
        let id = tenant_id.0.0;
        let name = given(body.value.name, "name", "expected a name, not null")?;
        let on_uncertain = given(
            body.value.email_on_uncertain,
            "email_on_uncertain",
            "expected `hold` or `resend`, not null",
        )?;
        if name.is_none() && on_uncertain.is_none() {
            return Reply::of(&find(&services.db, id).await?.into());
        }
        let mut change = tenant::Entity::update_many().filter(tenant::Column::Id.eq(id));
        if let Some(name) = name {
            check_name(&name)?;
            change = change.col_expr(tenant::Column::Name, Expr::value(name));
        }
        if let Some(Text(choice)) = on_uncertain {
            change = change.col_expr(tenant::Column::EmailOnUncertain, Expr::value(choice));
        }
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        change.exec(&tx).await?;
        let row = find(&tx, id).await?;
        let action = Action::TenantChanged;
        audit::record_by(&tx, &operator, Some(id), action, id, now).await?;
        tx.commit().await?;
        Reply::of(&row.into())
    }
}

async fn find(db: &impl ConnectionTrait, id: TenantId) -> Result<tenant::Model, ApiError> {
    let found = tenant::Entity::find_by_id(id).one(db).await?;
    found.ok_or_else(|| ApiError::not_found("tenant"))
}
