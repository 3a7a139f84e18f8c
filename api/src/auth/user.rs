//! What somebody who signed in may do: their roles, as the scopes of a key for the tenant at hand.

use poem::Request;
use relaypost_shared::ids::TenantId;

use super::{Access, Actor, Caller, Scope, named_tenant};
use crate::{
    Services,
    http::{ApiError, Code},
    people::lookup::SignedIn,
};

/// The caller that somebody is for an operation that asks for `access`.
///
/// # Errors
/// 404 for a tenant in which they have no role, as for one that does not exist; 400 when they have to name one; 403 when
/// they have no role anywhere.
pub(super) async fn caller(
    signed_in: SignedIn,
    access: Access,
    request: &Request,
) -> Result<Caller, ApiError> {
    let (tenant, scopes) = if signed_in.platform {
        // They always name the tenant: an administrator who gives them a role must not make them act in that tenant.
        (None, vec![Scope::Platform])
    } else {
        within(&signed_in, access, request).await?
    };
    Ok(Caller {
        actor: Actor::User(signed_in.user),
        tenant,
        scopes,
        session: Some(signed_in.session),
    })
}

async fn within(
    signed_in: &SignedIn,
    access: Access,
    request: &Request,
) -> Result<(Option<TenantId>, Vec<Scope>), ApiError> {
    let named = match access {
        Access::Platform | Access::SignedIn => return Ok((None, Vec::new())),
        Access::TenantInPath => Some(tenant_in_path(request)?),
        Access::Tenant(_) => match named_tenant(request)? {
            Some(named) => {
                let id = named.id(Services::of(request)?).await?;
                Some(id.ok_or_else(|| ApiError::not_found("tenant"))?)
            }
            None => None,
        },
    };
    let roles = signed_in.roles.as_slice();
    let (tenant, role) = match (named, roles) {
        (Some(named), _) => *roles
            .iter()
            .find(|(tenant, _)| *tenant == named)
            .ok_or_else(|| ApiError::not_found("tenant"))?,
        (None, [only]) => *only,
        (None, []) => {
            return Err(ApiError::new(
                Code::Forbidden,
                "you have no role in any tenant",
            ));
        }
        (None, _) => {
            return Err(ApiError::new(
                Code::TenantRequired,
                "you have roles in several tenants: name one with the header `X-Tenant-Id`",
            ));
        }
    };
    Ok((Some(tenant), Scope::of_role(role)))
}

/// The tenant of `/v1/tenants/{tenant_id}/…`.
fn tenant_in_path(request: &Request) -> Result<TenantId, ApiError> {
    let segment = request.uri().path().split('/').nth(3);
    let tenant = segment.and_then(|text| text.parse().ok());
    tenant.ok_or_else(|| ApiError::not_found("tenant"))
}
