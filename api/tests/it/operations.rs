//! Who may see how the service is doing.

use std::net::SocketAddr;

use relaypost_shared::queue::{MemoryQueue, Queue};
use relaypost_testkit::tls_provider;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{Api, support::ROOT_KEY};

const HEALTH_KEY: &str = "hk_8fK2mQ9xWv4Lz7TnRb3Yc6Gd";
const METRICS_SECRET: &str = "ms_3Yc6Gd8fK2mQ9xWv4Lz7TnRb";

fn memory() -> Queue {
    Queue::Memory(MemoryQueue::default())
}

/// Asks an API that listens, from this machine.
async fn ask(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    tls_provider();
    let mut request = reqwest::Client::new().get(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn details_are_for_this_machine_and_for_those_with_the_key() {
    let elsewhere = ("x-forwarded-for", "203.0.113.7");
    let api = Api::with(&[("HEALTH_KEY", HEALTH_KEY)], memory()).await;
    let mut tasks = JoinSet::new();
    let address = api.serve(&mut tasks);
    let (status, details) = ask(address, "/health/detailed", &[]).await;
    assert_eq!(status, 200, "{details}");
    assert_eq!(details["components"]["database"]["status"], "ok");
    assert_eq!(details["lanes"]["webhooks"]["backlog"], 0);
    assert_eq!(details["circuits_open"], 0);
    assert!(details["version"].is_string() && details["clock_offset_ms"].is_number());
    assert!(
        details["loops"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == "push jobs")
    );
    for headers in [
        &[elsewhere][..],
        &[elsewhere, ("x-health-key", "hk_8fK2mQ9xWv4Lz7TnRb3Yc6Ge")],
    ] {
        let (status, problem) = ask(address, "/health/detailed", headers).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
        let (status, health) = ask(address, "/v1/health", headers).await;
        assert_eq!((status, &health["status"]), (200, &json!("ok")));
        assert!(health["queues"].is_null() && health["circuits_open"].is_null());
    }
    let keyed = [elsewhere, ("x-health-key", HEALTH_KEY)];
    let (status, _) = ask(address, "/health/detailed", &keyed).await;
    assert_eq!(status, 200);
    let (_, health) = ask(address, "/v1/health", &keyed).await;
    let queues = json!({"webhooks": 0, "emails": 0, "bulk": 0});
    assert_eq!(
        (&health["queues"], &health["circuits_open"]),
        (&queues, &json!(0))
    );
    drop(tasks);
    api.stop().await;

    let api = crate::api().await;
    let mut tasks = JoinSet::new();
    let (status, problem) = ask(api.serve(&mut tasks), "/health/detailed", &[elsewhere]).await;
    assert_eq!((status, &problem["code"]), (403, &json!("forbidden")));
    assert!(problem["detail"].as_str().unwrap().contains("HEALTH_KEY"));
    drop(tasks);
    api.stop().await;
}

#[tokio::test]
async fn what_a_proxy_of_this_machine_passes_on_is_not_from_this_machine() {
    let mut tasks = JoinSet::new();
    let api = crate::api().await;
    let address = api.serve(&mut tasks);
    for header in [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Client-Cert",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "X-Client-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
    ] {
        for path in ["/health/detailed", "/v1/scaling"] {
            let (status, problem) = ask(address, path, &[(header, "x")]).await;
            assert_eq!(status, 403, "{header} {path}: {problem}");
        }
    }
    api.stop().await;

    // A proxy that is expected and adds no header cannot be told from this machine.
    for trusted in ["1", "loopback", "10.0.0.0/8"] {
        let api = Api::with(&[("TRUST_PROXY", trusted)], memory()).await;
        let address = api.serve(&mut tasks);
        for path in ["/health/detailed", "/v1/scaling"] {
            let (status, problem) = ask(address, path, &[]).await;
            assert_eq!(status, 403, "{trusted} {path}: {problem}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("TRUST_PROXY"), "{detail}");
        }
        api.stop().await;
    }
    drop(tasks);
}

/// What `/v1/scaling` answers with these settings and headers.
async fn scaling(settings: &[(&str, &str)], headers: &[(&str, &str)]) -> (u16, Value) {
    let api = Api::with(settings, memory()).await;
    let mut tasks = JoinSet::new();
    let answer = ask(api.serve(&mut tasks), "/v1/scaling", headers).await;
    drop(tasks);
    api.stop().await;
    answer
}

#[tokio::test]
async fn the_guard_of_metrics_lets_in_whom_it_says() {
    let elsewhere = ("x-forwarded-for", "203.0.113.7");
    let secret = [
        ("METRICS_GUARD", "secret"),
        ("METRICS_GUARD_SECRET", METRICS_SECRET),
    ];
    let bearer = format!("Bearer {METRICS_SECRET}");
    let cidr = [
        ("METRICS_GUARD", "cidr"),
        ("METRICS_GUARD_ALLOWLIST", "203.0.113.0/24"),
        ("TRUST_PROXY", "loopback"),
    ];
    let not_believed = [cidr[0], cidr[1]];
    for (settings, headers, status) in [
        (&[][..], &[][..], 200),
        (&[], &[elsewhere], 403),
        (&secret, &[("x-metrics-secret", METRICS_SECRET)], 200),
        (&secret, &[elsewhere, ("authorization", &bearer)], 200),
        (&secret, &[], 401),
        (
            &secret,
            &[("x-metrics-secret", "ms_3Yc6Gd8fK2mQ9xWv4Lz7TnRc")],
            401,
        ),
        (
            &secret,
            &[("authorization", &format!("Bearer {ROOT_KEY}"))],
            401,
        ),
        (&cidr, &[elsewhere], 200),
        (&cidr, &[("x-forwarded-for", "198.51.100.7")], 403),
        (&not_believed, &[elsewhere], 403),
        (&[("APP_ENV", "production")], &[], 403),
    ] {
        let (answered, body) = scaling(settings, headers).await;
        assert_eq!(answered, status, "{settings:?} {headers:?}: {body}");
        if status == 200 {
            let none = json!({"backlog": 0, "due_now": 0, "oldest_due_age_s": 0.0});
            let lanes = json!({"webhooks": none, "emails": none, "bulk": none});
            assert_eq!(body, json!({"lanes": lanes}));
        }
    }
    let (_, refused) = scaling(&[("APP_ENV", "production")], &[]).await;
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("METRICS_GUARD is set to secret or cidr")
    );
}
