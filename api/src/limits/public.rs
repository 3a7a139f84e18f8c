//! Operations that ask for no key: whoever signs in has none yet.

use poem::{Endpoint as _, EndpointExt as _, Request};
use poem_openapi::OpenApi;

use super::Meter;
use crate::http::parameters::{Routes, each_route};

/// Holds every operation of `T` that asks for no key to the limit of signing in, so that a new one cannot be forgotten.
/// It stands behind the router: however a path is written, it is the operation that counts.
pub(crate) fn limit_public<T: OpenApi>(routes: &mut Routes) {
    each_route::<T>(routes, |operation, endpoint| {
        if !operation.security.is_empty() {
            return endpoint;
        }
        let limited = endpoint.around(|inside, request: Request| async move {
            Meter::of(&request).sign_in().await?;
            inside.call(request).await
        });
        limited.boxed()
    });
}
