//! Operations that ask for no key: whoever signs in has none yet.

use poem::{Endpoint as _, EndpointExt as _, Request};
use poem_openapi::OpenApi;

use super::Meter;
use crate::http::{
    declared::Declared,
    parameters::{Routes, each_route},
};

/// Holds every operation of `T` that asks for no key to the limit of signing in, so that a new one cannot be forgotten.
/// It stands behind the router: however a path is written, it is the operation that counts.
pub(crate) fn limit_public<T: OpenApi>(routes: &mut Routes) {
    each_route::<T>(routes, |operation, endpoint| {
        let declared = Declared::of(operation);
        // Programs that watch the service come again and again, and guess no password here.
        if declared.access.is_some() || declared.watcher.is_some() {
            return endpoint;
        }
        let limited = endpoint.around(|inside, request: Request| async move {
            Meter::of(&request).sign_in().await?;
            inside.call(request).await
        });
        limited.boxed()
    });
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use poem::{Endpoint as _, EndpointExt as _, Request, Route, http::Method};
    use poem_openapi::{OpenApi, OpenApiService};
    use relaypost_shared::{
        clock::{Clock, Timestamp},
        settings::Settings,
    };

    use crate::{
        http::{
            NoContent,
            document::{Documented, Tag},
            outermost::Outermost,
        },
        limits::Limiter,
        routes::allowed_methods,
    };

    struct Public(Arc<AtomicUsize>);

    #[OpenApi(prefix_path = "/v1/auth", tag = "Tag::Tenants")]
    impl Public {
        /// Sign in
        #[oai(path = "/login", method = "post", operation_id = "auth_login")]
        async fn login(&self) -> NoContent {
            self.0.fetch_add(1, Ordering::Relaxed);
            NoContent
        }
    }

    #[tokio::test]
    async fn an_operation_that_asks_for_no_key_is_counted_by_address_before_it_runs() {
        let env = [
            ("RATE_LIMIT_ENABLED", "true"),
            ("RATE_LIMIT_SIGN_IN_BURST", "3"),
            ("TRUST_PROXY", "1"),
        ];
        let env: HashMap<_, _> = env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let settings = Settings::from_map(env).unwrap();
        let clock = Clock::manual(Timestamp::from_timestamp_millis(1_769_851_800_000).unwrap());
        let limiter = Limiter::new(&settings.limits, clock.clone());
        let outermost = Outermost::new(clock, &settings, limiter, allowed_methods());
        let ran = Arc::new(AtomicUsize::new(0));
        let service = OpenApiService::new(Documented(Public(ran.clone())), "Test", "1");
        let app = Route::new().nest("/", service).with(outermost);
        let ask = async |path: &'static str, from: &str| {
            let request = Request::builder()
                .method(Method::POST)
                .uri_str(path)
                .header("x-forwarded-for", from)
                .finish();
            app.call(request).await.unwrap()
        };
        for forged in ["1.1.1.1", "1.1.1.2", "1.1.1.3"] {
            let from = format!("{forged}, 203.0.113.7");
            let answer = ask("/v1/auth/login", &from).await;
            assert_eq!(answer.status(), 204);
            assert_eq!(answer.headers()["ratelimit-policy"], "\"sign-in\";q=3;w=6");
        }
        for path in [
            "/v1/auth/login",
            "/v1/auth/%6cogin",
            "//v1/auth/login",
            "/v1/auth/login/",
            "/v1/auth/login?a=1",
        ] {
            ask(path, "203.0.113.7").await;
        }
        let refused = ask("/v1/auth/login", "203.0.113.7").await;
        assert_eq!(refused.status(), 429);
        assert_eq!(refused.headers()["retry-after"], "2");
        assert_eq!(ran.load(Ordering::Relaxed), 3);
        assert_eq!(ask("/v1/auth/login", "203.0.113.8").await.status(), 204);
    }
}
