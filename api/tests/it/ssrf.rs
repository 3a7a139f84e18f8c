//! What an endpoint may not be stored with: URLs that lead into private networks, headers that are not its own to set.

use relaypost_shared::queue::{MemoryQueue, Queue};
use serde_json::{Value, json};

use crate::{Answer, Api, api, id, support::Tenant};

/// Tries to create an endpoint with this, and to change one to it: the answers.
async fn stored(tenant: &Tenant, field: &str, value: &Value) -> [Answer; 2] {
    let mut new = json!({"url": "https://example.com/"});
    new[field] = value.clone();
    let created = tenant.api.post("/v1/endpoints", new).await;
    let path = format!("/v1/endpoints/{}", tenant.endpoint(&[]).await);
    [
        created,
        tenant.api.patch(&path, json!({field: value})).await,
    ]
}

#[track_caller]
fn assert_refused(answers: [Answer; 2], path: &str) {
    for refused in answers {
        assert_eq!(
            refused.faults(422, "validation_failed"),
            [""; 0],
            "{refused}"
        );
        assert_eq!(refused.body["errors"][0]["path"], path, "{refused}");
    }
}

#[tokio::test]
async fn a_url_that_leads_into_a_private_network_is_refused_at_create_and_at_change() {
    let settings = [("WEBHOOK_ALLOW_CIDRS", "10.1.0.0/16")];
    let api = Api::with(&settings, Queue::Memory(MemoryQueue::default())).await;
    let tenant = api.tenant().await;
    api.names.set(
        "private.example",
        &["10.0.0.1", "169.254.169.254", "fd00::1"],
    );
    api.names.set("mapped.example", &["::ffff:10.0.0.1"]);
    api.names
        .set("mixed.example", &["10.0.0.1", "93.184.216.34"]);
    api.names.set("allowed.example", &["10.1.0.1"]);
    api.names.set("unknown.example", &[]);
    for refused in [
        "https://private.example/",
        "https://PRIVATE.example:8443/hooks",
        "https://%70rivate.example/",
        "https://\u{ff50}rivate.example/",
        "https://mapped.example/",
        "https://10.0.0.1/",
        "https://0xa.1/",
        "https://167772161/",
        "https://10\u{3002}0\u{3002}0\u{3002}1/",
        "https://[64:ff9b::10.0.0.1]/",
        "https://[2002:a00:1::]/",
        "https://168.63.129.16/",
        "https://example.com\\@10.0.0.1/",
        "https://example.com@10.0.0.1/",
        "https:/example.com/",
    ] {
        assert_refused(stored(&tenant, "url", &json!(refused)).await, "url");
    }
    for taken in [
        "https://mixed.example/",
        "https://allowed.example/",
        "https://unknown.example/",
        "https://10.1.2.3/",
        "https://93.184.216.34/",
    ] {
        let [created, changed] = stored(&tenant, "url", &json!(taken)).await;
        assert_eq!(created.expect(201)["url"], taken);
        assert_eq!(changed.expect(200)["url"], taken);
    }
    // It is not told which addresses a name has.
    let new = json!({"url": "https://private.example/"});
    let refused = tenant.api.post("/v1/endpoints", new).await;
    let text = String::from_utf8_lossy(&refused.bytes).into_owned();
    assert!(
        !text.contains("10.0.0.1") && !text.contains("fd00"),
        "{text}"
    );
    api.stop().await;
}

#[tokio::test]
async fn a_creation_is_answered_again_although_its_name_leads_elsewhere_by_now() {
    let api = api().await;
    let tenant = api.tenant().await;
    let client = tenant.api.clone().header("idempotency-key", "once");
    let new = json!({"url": "https://moving.example/"});
    let created = client.post("/v1/endpoints", new.clone()).await.expect(201);
    api.names.set("moving.example", &["10.0.0.1"]);
    let again = client.post("/v1/endpoints", new.clone()).await.expect(200);
    assert_eq!(id(&again), id(&created));
    // A refusal is not remembered: the key is still free for the first success.
    let other = tenant.api.clone().header("idempotency-key", "other");
    other.post("/v1/endpoints", new.clone()).await.expect(422);
    api.names.set("moving.example", &["93.184.216.34"]);
    other.post("/v1/endpoints", new).await.expect(201);
    api.stop().await;
}

#[tokio::test]
async fn headers_that_are_ours_are_refused_at_create_and_at_change() {
    let api = api().await;
    let tenant = api.tenant().await;
    for name in [
        "Webhook-Id",
        "webhook-timestamp",
        "WEBHOOK-SIGNATURE",
        "webhook-anything",
        "Content-Type",
        "Content-Length",
        "Content-Encoding",
        "Content-Range",
        "Host",
        "User-Agent",
        "Traceparent",
        "Tracestate",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Trailers",
        "Upgrade",
        "HTTP2-Settings",
        "Expect",
        "Date",
        "Accept-Encoding",
        "Proxy-Authorization",
        "Proxy-Authenticate",
        "Proxy-Connection",
        "Proxy-Anything",
        "Forwarded",
        "X-Forwarded-For",
        "X-Real-IP",
        "Via",
    ] {
        let path = format!("headers.{name}");
        assert_refused(stored(&tenant, "headers", &json!({name: "a"})).await, &path);
    }
    for name in [
        "X-Own",
        "Authorization",
        "Cookie",
        "Accept",
        "X-Webhook-Id",
        "Contents",
        "!#$%&'*+-.^_`|~",
    ] {
        let [created, changed] = stored(&tenant, "headers", &json!({name: "a"})).await;
        assert_eq!(created.expect(201)["headers"], json!({name: "a"}));
        assert_eq!(changed.expect(200)["headers"], json!({name: "a"}));
    }
    api.stop().await;
}

#[tokio::test]
async fn a_header_is_one_line_of_visible_characters_at_create_and_at_change() {
    let api = api().await;
    let tenant = api.tenant().await;
    let long = "a".repeat(901);
    for value in [
        "a\r\nX-B: b",
        "a\nX-B: b",
        "a\rX-B: b",
        "a\0b",
        "a\tb",
        "a\u{b}b",
        "a\u{7f}",
        "a\u{85}X-B: b",
        "a\u{2028}X-B: b",
        "a\u{10a}X-B: b",
        "\u{e9}",
        " a",
        "a ",
        &long,
    ] {
        let answers = stored(&tenant, "headers", &json!({"X-A": value})).await;
        assert_refused(answers, "headers.X-A");
    }
    for name in [
        "",
        "X A",
        "X-A:",
        "X-A: a\r\nX-B",
        "X-A\n",
        "X-A\0",
        "\u{212a}",
        "X\u{ad}",
        "X(A)",
        "X\"A",
        "{X}",
    ] {
        for refused in stored(&tenant, "headers", &json!({name: "a"})).await {
            assert_eq!(
                refused.faults(422, "validation_failed"),
                [""; 0],
                "{name:?}: {refused}"
            );
        }
    }
    let [created, _] = stored(&tenant, "headers", &json!({"X-A": "a b~!", "X-Empty": ""})).await;
    assert_eq!(
        created.expect(201)["headers"],
        json!({"X-A": "a b~!", "X-Empty": ""})
    );
    api.stop().await;
}
