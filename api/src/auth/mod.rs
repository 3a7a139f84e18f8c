//! Who calls, and what they may do. An operation takes [`Authorized`] before everything else that it reads
//! from the request, and so begins after all of this is settled.

mod authorized;
mod first_key;
mod key;
mod lookup;
pub(crate) mod may;
mod remembered;
mod scope;
mod user;
mod visitor;

use std::fmt;

use poem::{Request, http::header};
use relaypost_shared::{
    entities::tenant,
    ids::{KeyId, SessionId, TenantId, UserId},
};
use sea_orm::EntityTrait as _;

use crate::{
    Services,
    http::{ApiError, Code, ExternalId, TextValue as _},
};

pub(crate) use authorized::{Authorized, Requirement};
pub(crate) use key::{NewKey, prefix_of};
pub(crate) use lookup::Keys;
pub(crate) use scope::{Access, Scope};
pub(crate) use visitor::Visitor;

/// The name of the security scheme in the document.
pub(crate) const SECURITY_SCHEME: &str = "ApiKey";
const TENANT_HEADER: &str = "x-tenant-id";

/// Who calls, as the audit log names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A stored API key, by its id.
    Key(KeyId),
    /// Somebody who signed in, by their id.
    User(UserId),
    /// The key of the settings: `platform`.
    Platform,
    /// Nobody that is known, such as who fails to sign in: `anonymous`.
    Anonymous,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::User(user) => user.fmt(f),
            Self::Platform => f.write_str("platform"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    actor: Actor,
    /// The tenant that the caller stands for; none for one of the platform who names no tenant.
    tenant: Option<TenantId>,
    scopes: Vec<Scope>,
    /// The session, of somebody who signed in.
    session: Option<SessionId>,
}

impl Caller {
    /// # Errors
    /// 403, naming the scope, when the caller may not.
    fn require(&self, wanted: Scope) -> Result<(), ApiError> {
        if self.scopes.iter().any(|scope| scope.implies(wanted)) {
            return Ok(());
        }
        let detail = format!("this needs the scope `{}`", wanted.as_str());
        Err(ApiError::new(Code::Forbidden, detail))
    }

    fn is_platform(&self) -> bool {
        self.scopes.contains(&Scope::Platform)
    }
}

/// Puts the tenant into the request's log line.
fn record(tenant: TenantId) {
    tracing::Span::current().record("tenant_id", tracing::field::display(tenant));
}

async fn exists(services: &Services, tenant: TenantId) -> Result<(), ApiError> {
    let found = tenant::Entity::find_by_id(tenant).one(&services.db).await?;
    found
        .map(|_| ())
        .ok_or_else(|| ApiError::not_found("tenant"))
}

/// A tenant as a caller names it.
#[derive(Clone, Debug)]
enum Named {
    /// By the id that Relaypost has given it. There need not be one.
    Id(TenantId),
    /// By the id that the platform's own product knows it by.
    External(ExternalId),
}

impl Named {
    /// Its id; none when no tenant has the external id.
    async fn id(&self, services: &Services) -> Result<Option<TenantId>, ApiError> {
        let external_id = match self {
            Self::Id(id) => return Ok(Some(*id)),
            Self::External(id) => id.as_str(),
        };
        let found = tenant::Entity::by_external_id(external_id).one(&services.db);
        Ok(found.await?.map(|row| row.id))
    }

    /// Its id.
    ///
    /// # Errors
    /// 404 when there is no such tenant.
    async fn existing(&self, services: &Services) -> Result<TenantId, ApiError> {
        let id = self.id(services).await?;
        let id = id.ok_or_else(|| ApiError::not_found("tenant"))?;
        if let Self::Id(id) = self {
            exists(services, *id).await?;
        }
        Ok(id)
    }
}

/// The caller of an operation that asks for `access`.
async fn authenticate(request: &Request, access: Access) -> Result<Caller, ApiError> {
    let services = Services::of(request)?;
    let unauthorized = || {
        ApiError::new(
            Code::Unauthorized,
            "send a valid API key or access token as `Authorization: Bearer …`",
        )
    };
    let header = request
        .header(header::AUTHORIZATION)
        .ok_or_else(unauthorized)?;
    let text = match header.split_once(' ') {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("bearer") => text.trim(),
        _ => return Err(unauthorized()),
    };
    if let Some(root) = &services.settings.root_api_key
        && key::same(&key::hash(text), &key::hash(root.expose()))
    {
        return Ok(Caller {
            actor: Actor::Platform,
            tenant: None,
            scopes: vec![Scope::Platform],
            session: None,
        });
    }
    // No text is both: an access token begins with its JSON in base64.
    if let Some(presented) = key::PresentedKey::parse(text) {
        let caller = services.keys.find(presented).await?;
        return caller.ok_or_else(unauthorized);
    }
    let presented = services.access_tokens.verify(text, services.clock.now());
    let presented = presented.ok_or_else(unauthorized)?;
    let signed_in = services.sessions.find(presented).await?;
    user::caller(signed_in.ok_or_else(unauthorized)?, access, request).await
}

/// The tenant that the header names, if it is there.
///
/// # Errors
/// 404 for what is neither an id nor an external id: it is the id of nothing.
fn named_tenant(request: &Request) -> Result<Option<Named>, ApiError> {
    let Some(value) = request.headers().get(TENANT_HEADER) else {
        return Ok(None);
    };
    let named = value.to_str().ok().and_then(|text| {
        let external = || ExternalId::read(text).ok().map(Named::External);
        text.parse().ok().map(Named::Id).or_else(external)
    });
    named.map(Some).ok_or_else(|| ApiError::not_found("tenant"))
}

/// The tenant that a request is about: a tenant's key stands for its own, others name one.
async fn tenant_of(request: &Request, caller: &Caller) -> Result<TenantId, ApiError> {
    let services = Services::of(request)?;
    match (caller.tenant, named_tenant(request)?) {
        (Some(own), None) => Ok(own),
        (Some(own), Some(named)) if named.id(services).await? == Some(own) => Ok(own),
        (Some(_), Some(_)) => Err(ApiError::new(
            Code::Forbidden,
            "this key belongs to another tenant than `X-Tenant-Id` names",
        )),
        (None, Some(named)) => named.existing(services).await,
        (None, None) => Err(ApiError::new(
            Code::TenantRequired,
            "name the tenant with the header `X-Tenant-Id`",
        )),
    }
}
