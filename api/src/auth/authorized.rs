//! The extractor that every operation begins with.

use std::ops::Deref;

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use super::{Access, Caller, SECURITY_SCHEME, authenticate};
use crate::{
    http::{ApiError, parameters::Parameters},
    limits::Meter,
};

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
            description: Some(
                "An API key, `rp_…`, whose scopes say what it may do, or the access token of somebody who signed in, \
                 `eyJ…`, whose roles say the same. Either goes into this one field.",
            ),
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
        let meter = Meter::of(request);
        let caller = match authenticate(request, R::ACCESS).await {
            Ok(caller) => caller,
            Err(error) => return Err(meter.unauthorized(error).await.into()),
        };
        meter.caller(caller.tenant, caller.actor).await?;
        if let Some(scope) = R::ACCESS.scope() {
            caller.require(scope)?;
        }
        let grant = R::admit(request, caller).await?;
        // Only now: who may not come in learns nothing else.
        Parameters::check(request)?;
        Ok(Self(grant))
    }
}
