//! Who calls, and what they may do. An operation takes [`Authorized`] before everything else that it reads
//! from the request, and so begins after all of this is settled.

mod authorized;
mod first_key;
mod key;
mod lookup;
pub(crate) mod may;
mod scope;

use std::fmt;

use poem::{Request, http::header};
use relaypost_shared::{
    entities::tenant,
    ids::{KeyId, TenantId},
};
use sea_orm::EntityTrait as _;

use crate::{
    Services,
    http::{ApiError, Code},
};

pub(crate) use authorized::{Authorized, Requirement};
pub(crate) use key::{NewKey, prefix_of};
pub(crate) use lookup::Keys;
pub(crate) use scope::{Access, Scope};

/// The name of the security scheme in the document.
pub(crate) const SECURITY_SCHEME: &str = "ApiKey";
const TENANT_HEADER: &str = "x-tenant-id";

/// Who calls, as the audit log names them: a stored key by its id, the key of the settings as `platform`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor(Option<KeyId>);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => key.fmt(f),
            None => f.write_str("platform"),
        }
    }
}

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    actor: Actor,
    /// The tenant whose key it is; none for a platform key.
    tenant: Option<TenantId>,
    scopes: Vec<Scope>,
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

async fn authenticate(request: &Request) -> Result<Caller, ApiError> {
    let services = Services::of(request)?;
    let unauthorized = || {
        ApiError::new(
            Code::Unauthorized,
            "send a valid API key as `Authorization: Bearer …`",
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
            actor: Actor(None),
            tenant: None,
            scopes: vec![Scope::Platform],
        });
    }
    let presented = key::PresentedKey::parse(text).ok_or_else(unauthorized)?;
    let caller = services.keys.find(presented).await?;
    caller.ok_or_else(unauthorized)
}

/// The tenant that a request is about: a tenant's key stands for its own, a platform key names one.
async fn tenant_of(request: &Request, caller: &Caller) -> Result<TenantId, ApiError> {
    let named = match request.headers().get(TENANT_HEADER) {
        None => None,
        Some(value) => {
            let id = value.to_str().ok().and_then(|text| text.parse().ok());
            Some(id.ok_or_else(|| ApiError::not_found("tenant"))?)
        }
    };
    match (caller.tenant, named) {
        (Some(own), None) => Ok(own),
        (Some(own), Some(named)) if own == named => Ok(own),
        (Some(_), Some(_)) => Err(ApiError::new(
            Code::Forbidden,
            "this key belongs to another tenant than `X-Tenant-Id` names",
        )),
        (None, Some(named)) => {
            exists(Services::of(request)?, named).await?;
            Ok(named)
        }
        (None, None) => Err(ApiError::new(
            Code::TenantRequired,
            "a platform key names the tenant with the header `X-Tenant-Id`",
        )),
    }
}
