//! Demo mode: signs anybody in as one of four users, for trying things out. In development only.

use std::fmt;

use poem::{Request, http::header, web::Data};
use poem_openapi::{OpenApi, param::Query, registry::MetaSchema};
use relaypost_shared::{
    clock::Timestamp,
    db::{Transaction, begin_write},
    delivery::EmailOnUncertain,
    entities::{membership, tenant, user},
    ids::{TenantId, UserId},
    people::{Role, SignInMethod},
    settings::{AppEnv, Settings},
};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, IntoActiveModel as _, QueryFilter as _,
    QueryOrder as _, sea_query::OnConflict,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use url::{Host, Url};
use uuid::Uuid;

use super::{
    address,
    failures::{NoDemo, NotLetIn},
    sessions::{self, SignIn, Tokens},
};
use crate::{
    Services,
    auth::Visitor,
    http::{ApiError, Code, FailsWith, Reply, Text, TextValue, document::Tag},
};

/// Who can be tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DemoUser {
    Admin,
    Alice,
    Bob,
    Moderator,
}

impl DemoUser {
    const ALL: [Self; 4] = [Self::Admin, Self::Alice, Self::Bob, Self::Moderator];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Alice => "alice",
            Self::Bob => "bob",
            Self::Moderator => "moderator",
        }
    }

    const fn role(self) -> Role {
        match self {
            Self::Admin => Role::Admin,
            Self::Alice | Self::Moderator => Role::Operator,
            Self::Bob => Role::Viewer,
        }
    }

    /// An address that can be nobody's (RFC 2606).
    fn address(self) -> String {
        format!("{}@demo.invalid", self.as_str())
    }
}

impl TextValue for DemoUser {
    const SCHEMA_NAME: Option<&'static str> = Some("DemoUser");

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some(
                "`admin` has the role `admin`, `alice` and `moderator` have `operator`, `bob` has `viewer`.",
            ),
            enum_items: Self::ALL.map(|user| json!(user.as_str())).into(),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|user| user.as_str() == text)
            .ok_or_else(|| "expected one of admin, alice, bob, moderator".to_owned())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The operation of the demo.
#[derive(Debug)]
pub(crate) struct DemoApi;

#[OpenApi(prefix_path = "/auth", tag = "Tag::SignIn")]
impl DemoApi {
    /// Sign in as a user of the demo
    ///
    /// In development only, and not where `AUTH_DEMO_MODE` is `false`: elsewhere this is 404. Makes the user and the tenant
    /// if there are none.
    #[oai(path = "/demo", method = "get", operation_id = "auth_demo")]
    async fn demo(
        &self,
        Data(services): Data<&Services>,
        visitor: Visitor,
        request: &Request,
        /// Who to be.
        user: Query<Text<DemoUser>>,
        /// The name of the tenant: 1 to 200 characters. Without it: `demo`.
        #[oai(validator(
            min_length = 1,
            max_length = 200,
            pattern = r"^[^\x00-\x1F\x7F-\x9F]*$"
        ))]
        tenant: Query<Option<String>>,
    ) -> Result<Reply<Tokens>, FailsWith<(NoDemo, NotLetIn)>> {
        if !is_on(&services.settings) || !is_ours(request, &services.settings) {
            return Err(ApiError::new(Code::RouteNotFound, "no operation has this path").into());
        }
        let name = tenant.0.unwrap_or_else(|| "demo".to_owned());
        let count = name.chars().count();
        if !(1..=200).contains(&count) || name.chars().any(char::is_control) {
            return Err(ApiError::new(
                Code::InvalidParameter,
                "tenant: expected 1 to 200 characters on one line",
            )
            .into());
        }
        let (tx, now) = (begin_write(&services.db).await?, services.clock.now());
        let tenant = tenant_of(&tx, name, now).await?;
        let row = user_of(&tx, user.0.0, now).await?;
        let role = membership::Model {
            user_id: row.id,
            tenant_id: tenant,
            role: user.0.0.role(),
            created_at: now,
        };
        let key = [membership::Column::UserId, membership::Column::TenantId];
        membership::Entity::insert(role.into_active_model())
            .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
            .exec_without_returning(&tx)
            .await?;
        let sign_in = SignIn {
            user: &row,
            method: SignInMethod::Demo,
            client: &visitor.client,
            request_id: &visitor.request_id,
        };
        let tokens = sessions::begin(&tx, services, sign_in, now).await?;
        tx.commit().await?;
        Ok(Reply::of(&tokens)?)
    }
}

/// The settings refuse the demo in production; this does not rely on it.
/// Whether the request names this service: an address, a name without a dot, or the host of `PUBLIC_URL`. A page somewhere
/// in the web can have its own name lead to this machine, and would be signed in (DNS rebinding).
fn is_ours(request: &Request, settings: &Settings) -> bool {
    let Some(host) = request.header(header::HOST) else {
        return true;
    };
    let Ok(url) = Url::parse(&format!("http://{host}/")) else {
        return false;
    };
    let public = Url::parse(settings.auth.public_url.as_str()).ok();
    match url.host() {
        Some(Host::Domain(name)) => {
            let known = public.as_ref().and_then(Url::host_str) == Some(name);
            known || !name.contains('.') || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    }
}

fn is_on(settings: &Settings) -> bool {
    settings.auth.demo_mode && settings.env == AppEnv::Development
}

/// The oldest tenant with this name, or a new one whose id is made of the name, so that two requests at once make one.
async fn tenant_of(tx: &Transaction, name: String, now: Timestamp) -> Result<TenantId, DbErr> {
    let known = tenant::Entity::find()
        .filter(tenant::Column::Name.eq(&name))
        .filter(tenant::Column::Id.ne(TenantId::OWN))
        .order_by_asc(tenant::Column::Id)
        .one(tx)
        .await?;
    if let Some(known) = known {
        return Ok(known.id);
    }
    let id = TenantId::from_uuid(named("tenant", &name));
    let row = tenant::Model {
        id,
        external_id: None,
        name,
        class: tenant::STANDARD.to_owned(),
        created_at: now,
        dlq_warned_at: None,
        email_on_uncertain: EmailOnUncertain::Hold,
    };
    tenant::Entity::insert(row.into_active_model())
        .on_conflict(
            OnConflict::column(tenant::Column::Id)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    Ok(id)
}

async fn user_of(
    tx: &Transaction,
    user: DemoUser,
    now: Timestamp,
) -> Result<user::Model, ApiError> {
    let address = user.address();
    let row = user::Model {
        id: UserId::from_uuid(named("user", &address)),
        email: address.clone(),
        name: Some(user.as_str().to_owned()),
        password_hash: None,
        platform: false,
        email_verified_at: Some(now),
        disabled_at: None,
        last_signed_in_at: None,
        created_at: now,
        updated_at: now,
    };
    user::Entity::insert(row.into_active_model())
        .on_conflict(
            OnConflict::column(user::Column::Email)
                .do_nothing()
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;
    let found = address::user_of(tx, &address).await?;
    found.ok_or_else(|| ApiError::not_found("user"))
}

/// An id made of a name (RFC 9562, section 5.8).
fn named(kind: &str, name: &str) -> Uuid {
    let digest = Sha256::digest(format!("relaypost demo {kind} {name}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
