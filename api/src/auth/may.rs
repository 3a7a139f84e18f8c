//! What operations ask of their callers, each as a type: `Authorized<may::Send>`.

use poem::Request;
use relaypost_shared::ids::{SessionId, TenantId, UserId};

use super::{Access, Actor, Caller, Requirement, Scope, exists, named_tenant, record, tenant_of};
use crate::{
    Services,
    audit::By,
    http::{ApiError, Code, request_id::RequestId},
};

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

/// [`Scope::Read`] within a tenant, or [`Scope::Platform`] without one: what the platform shares with all tenants.
#[derive(Debug)]
pub(crate) enum ReadShared {}

impl Requirement for ReadShared {
    const ACCESS: Access = Access::Tenant(Scope::Read);
    type Grant = ForTenant;

    async fn admit(request: &Request, caller: Caller) -> Result<ForTenant, ApiError> {
        ForTenant::or_platform(request, &caller).await
    }
}

/// [`Scope::Manage`] within a tenant, or [`Scope::Platform`] without one: what the platform shares with all tenants.
#[derive(Debug)]
pub(crate) enum ManageShared {}

impl Requirement for ManageShared {
    const ACCESS: Access = Access::Tenant(Scope::Manage);
    type Grant = ForTenant;

    async fn admit(request: &Request, caller: Caller) -> Result<ForTenant, ApiError> {
        ForTenant::or_platform(request, &caller).await
    }
}

/// [`Scope::Admin`] within the tenant that the path names: the handler asks [`Admin::of`].
#[derive(Debug)]
pub(crate) enum AdministerTenantInPath {}

impl Requirement for AdministerTenantInPath {
    const ACCESS: Access = Access::TenantInPath;
    type Grant = Admin;

    async fn admit(request: &Request, caller: Caller) -> Result<Admin, ApiError> {
        let by = By::new(caller.actor, &RequestId::current(request)?);
        Ok(Admin { caller, by })
    }
}

/// A session of a user.
#[derive(Debug)]
pub(crate) enum BeSignedIn {}

impl Requirement for BeSignedIn {
    const ACCESS: Access = Access::SignedIn;
    type Grant = Myself;

    async fn admit(request: &Request, caller: Caller) -> Result<Myself, ApiError> {
        match (caller.actor, caller.session) {
            (Actor::User(user), Some(session)) => Ok(Myself {
                user,
                session,
                by: By::new(caller.actor, &RequestId::current(request)?),
            }),
            _ => Err(ApiError::new(
                Code::Forbidden,
                "this is for people who have signed in, not for API keys",
            )),
        }
    }
}

/// Somebody who acts for themselves.
#[derive(Debug)]
pub(crate) struct Myself {
    /// Who.
    pub(crate) user: UserId,
    /// The session of the access token.
    pub(crate) session: SessionId,
    /// The same for the audit log.
    pub(crate) by: By,
}

/// [`Scope::Platform`].
#[derive(Debug)]
pub(crate) enum OperatePlatform {}

impl Requirement for OperatePlatform {
    const ACCESS: Access = Access::Platform;
    type Grant = By;

    async fn admit(request: &Request, caller: Caller) -> Result<By, ApiError> {
        Ok(By::new(caller.actor, &RequestId::current(request)?))
    }
}

/// [`Scope::Admin`] within a tenant, or [`Scope::Platform`] without one.
#[derive(Debug)]
pub(crate) enum ReadAuditLog {}

impl Requirement for ReadAuditLog {
    const ACCESS: Access = Access::Tenant(Scope::Admin);
    type Grant = Reader;

    async fn admit(request: &Request, caller: Caller) -> Result<Reader, ApiError> {
        if caller.is_platform() && named_tenant(request)?.is_none() {
            return Ok(Reader { tenant: None });
        }
        let tenant = tenant_of(request, &caller).await?;
        record(tenant);
        Ok(Reader {
            tenant: Some(tenant),
        })
    }
}

/// Somebody who may read the audit log.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Of this tenant; none: of all.
    pub(crate) tenant: Option<TenantId>,
}

/// A tenant that the caller may act for.
#[derive(Debug)]
pub(crate) struct ForTenant {
    /// Whose things this request is about.
    pub(crate) tenant: TenantId,
    /// Who acts.
    pub(crate) actor: Actor,
    /// Whether the caller may see what the tenant signs and authenticates with: the scope `manage`.
    pub(crate) sees_secrets: bool,
    /// Whether the caller may see how the service itself is doing: the scope `platform`.
    pub(crate) sees_service: bool,
    /// The id of the request.
    pub(crate) request_id: RequestId,
}

impl ForTenant {
    async fn admit(request: &Request, caller: &Caller) -> Result<Self, ApiError> {
        let tenant = tenant_of(request, caller).await?;
        Self::of(request, caller, tenant)
    }

    /// The same, and a caller of the platform who names no tenant acts for the platform's own.
    async fn or_platform(request: &Request, caller: &Caller) -> Result<Self, ApiError> {
        if caller.is_platform() && named_tenant(request)?.is_none() {
            return Self::of(request, caller, TenantId::OWN);
        }
        Self::admit(request, caller).await
    }

    fn of(request: &Request, caller: &Caller, tenant: TenantId) -> Result<Self, ApiError> {
        record(tenant);
        Ok(Self {
            tenant,
            actor: caller.actor,
            sees_secrets: caller.require(Scope::Manage).is_ok(),
            sees_service: caller.is_platform(),
            request_id: RequestId::current(request)?,
        })
    }
}

/// An administrator, of which tenant remains to be checked.
#[derive(Debug)]
pub(crate) struct Admin {
    caller: Caller,
    /// Who they are, for the audit log.
    pub(crate) by: By,
}

impl Admin {
    /// Whether they may do everything, of every tenant.
    pub(crate) fn is_platform(&self) -> bool {
        self.caller.is_platform()
    }

    /// The tenant that the path names, if the caller administers it.
    ///
    /// # Errors
    /// 404 when there is no such tenant or it is not the caller's.
    pub(crate) async fn of(
        &self,
        services: &Services,
        tenant: TenantId,
    ) -> Result<TenantId, ApiError> {
        if !self.is_platform() && self.caller.tenant != Some(tenant) {
            return Err(ApiError::not_found("tenant"));
        }
        exists(services, tenant).await?;
        record(tenant);
        Ok(tenant)
    }
}
