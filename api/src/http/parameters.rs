//! What requests bring along beside path and body. An operation that does not know a parameter refuses it, because a
//! misspelt filter that is overlooked shows everything, and an overlooked `Idempotency-Key` promises what is not kept.

use std::{collections::HashMap, sync::Arc};

use poem::{
    EndpointExt as _, Request,
    endpoint::BoxEndpoint,
    http::{HeaderName, Method},
};
use poem_openapi::{
    OpenApi,
    registry::{MetaOperation, MetaParamIn},
};
use url::form_urlencoded;

use super::{
    declared::Declared,
    problem::{ApiError, Code},
};

/// The header that makes a request safe to send again.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longer names are cut in the answer: they repeat what the client sent.
const MAX_SHOWN: usize = 100;

/// The routes of an API as the framework keeps them.
pub(crate) type Routes = HashMap<String, HashMap<Method, BoxEndpoint<'static>>>;

/// What an operation takes, as its document has it.
#[derive(Debug)]
pub(crate) struct Parameters {
    query: Vec<String>,
    /// Whether an `Idempotency-Key` would be overlooked where its sender relies on it: the operation neither takes one nor
    /// declares that it is safe to repeat.
    refuses_key: bool,
}

impl Parameters {
    fn of(operation: &MetaOperation) -> Self {
        let query = operation
            .params
            .iter()
            .filter(|param| param.in_type == MetaParamIn::Query);
        let declared = Declared::of(operation);
        Self {
            query: query.map(|param| param.name.clone()).collect(),
            refuses_key: operation.method == Method::POST
                && !declared.takes_key
                && !declared.safe_to_repeat,
        }
    }

    /// Tells every route of `T` what its operation takes, for [`Parameters::check`].
    pub(crate) fn attach<T: OpenApi>(routes: &mut Routes) {
        each_route::<T>(routes, |operation, endpoint| {
            endpoint.data(Arc::new(Self::of(operation))).boxed()
        });
    }

    /// Refuses a request that brings what its operation does not take.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub(crate) fn check(request: &Request) -> Result<(), ApiError> {
        let known = request.data::<Arc<Self>>().ok_or_else(|| {
            ApiError::new(Code::Internal, "the operation has not said what it takes")
        })?;
        let query = request.uri().query().unwrap_or_default();
        let unknown = form_urlencoded::parse(query.as_bytes())
            .map(|(name, _)| name)
            .find(|name| known.query.iter().all(|taken| taken != name));
        if let Some(name) = unknown {
            let name: String = name.chars().take(MAX_SHOWN).collect();
            let detail = format!("{name}: this operation has no such parameter");
            return Err(ApiError::new(Code::InvalidParameter, detail));
        }
        if known.refuses_key && request.headers().contains_key(IDEMPOTENCY_KEY) {
            return Err(ApiError::new(
                Code::InvalidParameter,
                "this operation takes no Idempotency-Key",
            ));
        }
        Ok(())
    }
}

/// Wraps every route of `T`, by what the document says of its operation.
pub(crate) fn each_route<T: OpenApi>(
    routes: &mut Routes,
    wrap: impl Fn(&MetaOperation, BoxEndpoint<'static>) -> BoxEndpoint<'static>,
) {
    for path in T::meta().into_iter().flat_map(|api| api.paths) {
        // The two name the variables of a path differently.
        let Some((_, methods)) = routes
            .iter_mut()
            .find(|(route, _)| shape(route) == shape(&path.path))
        else {
            continue;
        };
        for operation in &path.operations {
            if let Some(endpoint) = methods.remove(&operation.method) {
                methods.insert(operation.method.clone(), wrap(operation, endpoint));
            }
        }
    }
}

/// A path without the names of its variables.
fn shape(path: &str) -> Vec<&str> {
    path.split('/')
        .map(|segment| match segment.chars().next() {
            Some('{' | ':') => "{}",
            _ => segment,
        })
        .collect()
}
