//! Who calls, and what they may do. An operation takes [`Authorized`] before everything else that it reads
//! from the request, and so begins after all of this is settled.

mod first_key;
mod key;
mod lookup;
mod scope;

use std::ops::Deref;

use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use relaypost_shared::{entities::tenant, ids::TenantId};
use sea_orm::EntityTrait as _;

use crate::{
    Services,
    http::{ApiError, Code, request_id::RequestId},
};

pub(crate) use key::{NewKey, prefix_of};
pub(crate) use lookup::Keys;
pub(crate) use scope::{Access, Scope};

/// The name of the security scheme in the document.
pub(crate) const SECURITY_SCHEME: &str = "ApiKey";
const TENANT_HEADER: &str = "x-tenant-id";

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
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

/// What an operation asks of its caller, as a type for [`Authorized`]. They stand in [`may`].
pub(crate) trait Requirement: Send + Sync + 'static {
    /// The same as a value, for the document.
    const ACCESS: Access;
    /// What the operation gets when the caller may.
    type Grant: Send + Sync;

    /// Lets the caller in.
    ///
    /// # Errors
    /// 403 without the scope; 400, 403 or 404 when the tenant is not named, not the caller's or unknown.
    fn admit(
        request: &Request,
        caller: Caller,
    ) -> impl Future<Output = Result<Self::Grant, ApiError>> + Send;
}

/// A caller who may. It derefs to what the requirement grants: `Authorized<may::Send>` has a `tenant`.
#[derive(Debug)]
pub(crate) struct Authorized<R: Requirement>(R::Grant);

impl<R: Requirement> Deref for Authorized<R> {
    type Target = R::Grant;

    fn deref(&self) -> &R::Grant {
        &self.0
    }
}

impl<'a, R: Requirement> ApiExtractor<'a> for Authorized<R> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some("An API key: `rp_…`. Each key has scopes that say what it may do."),
            name: None,
            key_in: None,
            scheme: Some("bearer"),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(SECURITY_SCHEME, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![R::ACCESS.marker()]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let caller = authenticate(request).await?;
        caller.require(R::ACCESS.scope())?;
        Ok(Self(R::admit(request, caller).await?))
    }
}

/// A tenant that the caller may act for.
#[derive(Debug)]
pub(crate) struct ForTenant {
    /// Whose things this request is about.
    pub(crate) tenant: TenantId,
    /// The id of the request.
    pub(crate) request_id: RequestId,
}

impl ForTenant {
    async fn admit(request: &Request, caller: &Caller) -> Result<Self, ApiError> {
        let tenant = tenant_of(request, caller).await?;
        record(tenant);
        Ok(Self {
            tenant,
            request_id: RequestId::current(request)?,
        })
    }
}

/// An administrator, of which tenant remains to be checked.
#[derive(Debug)]
pub(crate) struct Admin(Caller);

impl Admin {
    /// The tenant that the path names, if the caller administers it.
    ///
    /// # Errors
    /// 404 when there is no such tenant or it is not the caller's.
    pub(crate) async fn of(
        &self,
        services: &Services,
        tenant: TenantId,
    ) -> Result<TenantId, ApiError> {
        if !self.0.is_platform() && self.0.tenant != Some(tenant) {
            return Err(ApiError::not_found("tenant"));
        }
        exists(services, tenant).await?;
        record(tenant);
        Ok(tenant)
    }
}

/// The requirements there are.
pub(crate) mod may {
    use super::{Access, Admin, ApiError, Caller, ForTenant, Request, Requirement, Scope};

    macro_rules! within_a_tenant {
        ($($name:ident)*) => {$(
            #[doc = concat!("[`Scope::", stringify!($name), "`] within a tenant.")]
            #[derive(Debug)]
            pub(crate) enum $name {}

            impl Requirement for $name {
                const ACCESS: Access = Access::Tenant(Scope::$name);
                type Grant = ForTenant;

                async fn admit(request: &Request, caller: Caller) -> Result<ForTenant, ApiError> {
                    ForTenant::admit(request, &caller).await
                }
            }
        )*};
    }
    within_a_tenant! { Send Read Manage }

    /// [`Scope::Admin`] within the tenant that the path names: the handler asks [`Admin::of`].
    #[derive(Debug)]
    pub(crate) enum AdministerTenantInPath {}

    impl Requirement for AdministerTenantInPath {
        const ACCESS: Access = Access::TenantInPath;
        type Grant = Admin;

        async fn admit(_: &Request, caller: Caller) -> Result<Admin, ApiError> {
            Ok(Admin(caller))
        }
    }

    /// [`Scope::Platform`].
    #[derive(Debug)]
    pub(crate) enum OperatePlatform {}

    impl Requirement for OperatePlatform {
        const ACCESS: Access = Access::Platform;
        type Grant = ();

        async fn admit(_: &Request, _: Caller) -> Result<(), ApiError> {
            Ok(())
        }
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
