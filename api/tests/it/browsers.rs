//! What browsers are told about answers, and which web pages may call the API.

use poem::http::Method;
use relaypost_shared::queue::{MemoryQueue, Queue};
use serde_json::json;

use crate::{
    Answer, api,
    support::{Api, Client},
};

const PAGE: &str = "https://app.example.com";
const ORIGINS: &str = "https://app.example.com,https://admin.example.com:8443";
const TRANSPORT: &str = "strict-transport-security";

async fn api_for_pages(settings: &[(&str, &str)]) -> Api {
    let origins = [("CORS_ORIGINS", ORIGINS)];
    let settings: Vec<_> = origins.iter().chain(settings).copied().collect();
    Api::with(&settings, Queue::Memory(MemoryQueue::default())).await
}

async fn asks_first(client: &Client, origin: &str) -> Answer {
    let asking = client
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        );
    asking.send(Method::OPTIONS, "/v1/messages", None).await
}

fn permissions(answer: &Answer) -> Vec<&String> {
    let headers = answer.headers.keys();
    headers
        .filter(|name| name.starts_with("access-control-"))
        .collect()
}

#[tokio::test]
async fn a_listed_page_may_call_the_api_and_read_its_answers() {
    let api = api_for_pages(&[]).await;
    let asked = asks_first(&api.anonymous(), PAGE).await;
    assert_eq!((asked.status, asked.bytes.len()), (204, 0), "{asked}");
    for (name, value) in [
        ("access-control-allow-origin", PAGE),
        (
            "access-control-allow-methods",
            "GET, POST, PUT, PATCH, DELETE",
        ),
        (
            "access-control-allow-headers",
            "Authorization, Content-Type, Idempotency-Key, X-Tenant-Id, X-Request-ID",
        ),
        ("access-control-max-age", "7200"),
        (
            "vary",
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        ),
    ] {
        assert_eq!(asked.headers[name], value, "{name}");
    }
    let page = api.root().header("origin", PAGE);
    for answer in [
        page.post("/v1/tenants", json!({"name": "Acme"})).await,
        page.get("/v1/nowhere").await,
        page.get("/health").await,
    ] {
        assert_eq!(
            answer.headers["access-control-allow-origin"], PAGE,
            "{answer}"
        );
        assert_eq!(
            answer.headers["access-control-expose-headers"],
            "X-Request-ID, Idempotency-Replayed, Retry-After, RateLimit, RateLimit-Policy, Location"
        );
        assert_eq!(answer.headers["vary"], "Origin");
        // Nothing that a browser holds by itself, such as a cookie, is ever asked for.
        assert!(
            !answer
                .headers
                .contains_key("access-control-allow-credentials")
        );
    }
    api.stop().await;
}

#[tokio::test]
async fn a_page_that_is_not_listed_gets_no_permission() {
    let api = api_for_pages(&[]).await;
    for origin in [
        "https://evil.example.com",
        "null",
        "*",
        "http://app.example.com",
        "https://app.example.com:444",
        "https://app.example.com.evil.test",
        "https://APP.example.com",
        ORIGINS,
    ] {
        let asked = asks_first(&api.anonymous(), origin).await;
        let answer = api.root().header("origin", origin).get("/v1/tenants").await;
        assert_eq!((asked.status, answer.status), (405, 200), "{origin}");
        for answer in [asked, answer] {
            assert_eq!(permissions(&answer), [""; 0], "{origin}: {answer}");
            assert_eq!(answer.headers["vary"], "Origin", "{origin}");
        }
    }
    let twice = api.root().header("origin", PAGE).header("origin", PAGE);
    assert_eq!(permissions(&twice.get("/v1/tenants").await), [""; 0]);
    api.stop().await;
}

#[tokio::test]
async fn without_origins_no_page_gets_permission() {
    for settings in [&[][..], &[("CORS_ORIGINS", "none")]] {
        let api = Api::with(settings, Queue::Memory(MemoryQueue::default())).await;
        for origin in [PAGE, "null", "none"] {
            assert_eq!(
                permissions(&asks_first(&api.anonymous(), origin).await),
                [""; 0]
            );
        }
        api.stop().await;
    }
}

#[tokio::test]
async fn only_production_asks_browsers_for_tls_for_good() {
    let development = api().await;
    let production = api_for_pages(&[("APP_ENV", "production")]).await;
    for path in ["/health", "/v1/messages", "/nowhere", "/docs"] {
        let answer = production.anonymous().get(path).await;
        let value = &answer.headers[TRANSPORT];
        assert_eq!(value, "max-age=31536000; includeSubDomains", "{path}");
        let answer = development.anonymous().get(path).await;
        assert!(!answer.headers.contains_key(TRANSPORT), "{path}");
    }
    development.stop().await;
    production.stop().await;
}

#[tokio::test]
async fn the_page_of_the_documentation_runs_only_the_scripts_that_it_came_with() {
    let api = api().await;
    let docs = api.anonymous().get("/docs").await;
    let policy = &docs.headers["content-security-policy"];
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    // Swagger UI and what starts it.
    let (_, named) = policy.split_once("script-src").unwrap();
    let named = named.split(';').next().unwrap().matches("'sha256-").count();
    assert_eq!(named, 2);
    api.stop().await;
}
