//! Whatever is wrong with a request: the right status, the right code, the one problem shape, and nothing stored.

use relaypost_testkit::{Answer, Api, Tenant, World};
use reqwest::Method;
use serde_json::json;

use crate::world;

struct Case {
    what: &'static str,
    api: Api,
    method: Method,
    path: String,
    body: Option<Vec<u8>>,
    status: u16,
    code: &'static str,
    /// The field that a validation error has to name.
    field: Option<&'static str>,
}

#[tokio::test]
async fn bad_requests_are_refused_in_one_shape_and_store_nothing() {
    let world = world(&[]).await;
    let (tenant, other) = (world.tenant("acme").await, world.tenant("other").await);
    let mut cases = bad_bodies(&tenant.api);
    cases.extend(bad_ids(&tenant.api, &other).await);
    cases.extend(bad_requests(&world, &tenant).await);

    let mut complaints = Vec::new();
    for case in cases {
        let body = case.body.clone().map(|body| ("application/json", body));
        let answer = case.api.send(case.method.clone(), &case.path, body).await;
        let found = faults_of(&case, &answer);
        if !found.is_empty() {
            complaints.push(format!("{}: {}\n    {answer}", case.what, found.join("; ")));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    for list in ["messages", "endpoints", "emails", "deliveries"] {
        let stored = tenant.api.get(&format!("/v1/{list}")).await.expect(200);
        assert_eq!(stored["data"], json!([]), "{list}");
    }
    assert!(world.smtp.mails().is_empty());
    world.stop().await;
}

fn post(api: &Api, what: &'static str, path: &str, body: impl Into<Vec<u8>>) -> Case {
    let body = Some(body.into());
    let (api, path) = (api.clone(), path.to_owned());
    Case {
        what,
        api,
        method: Method::POST,
        path,
        body,
        status: 422,
        code: "validation_failed",
        field: None,
    }
}

fn get(api: &Api, what: &'static str, path: &str, status: u16, code: &'static str) -> Case {
    let (api, path) = (api.clone(), path.to_owned());
    Case {
        what,
        api,
        method: Method::GET,
        path,
        body: None,
        status,
        code,
        field: None,
    }
}

fn bad_bodies(api: &Api) -> Vec<Case> {
    let malformed = |what, body: &[u8]| Case {
        status: 400,
        code: "malformed_json",
        ..post(api, what, "/v1/messages", body)
    };
    let invalid = |what, path: &str, field, body: serde_json::Value| Case {
        field: Some(field),
        ..post(api, what, path, body.to_string())
    };
    let email = |what, field, to: &str, subject: &str| {
        let body = json!({"to": [to], "subject": subject, "text": "Hello"});
        invalid(what, "/v1/emails", field, body)
    };
    let message = |what, field, body| invalid(what, "/v1/messages", field, body);
    let endpoint = |what, url: &str| invalid(what, "/v1/endpoints", "url", json!({"url": url}));
    let large = json!({"event_type": "a.b", "payload": "x".repeat(2 << 20)}).to_string();
    vec![
        malformed("malformed JSON", br#"{"event_type": "a.b", "payload": {"#),
        malformed(
            "not UTF-8",
            b"{\"event_type\": \"a.b\", \"payload\": \"\xff\"}",
        ),
        message(
            "wrong type",
            "event_type",
            json!({"event_type": 7, "payload": {}}),
        ),
        message(
            "wrong nested type",
            "channels",
            json!({"event_type": "a.b", "payload": {}, "channels": [7]}),
        ),
        message("missing field", "event_type", json!({"payload": {}})),
        message(
            "unknown field",
            "colour",
            json!({"event_type": "a.b", "payload": {}, "colour": "red"}),
        ),
        endpoint("URL without a scheme", "example.test/hooks"),
        endpoint(
            "URL with credentials",
            "https://user:pass@example.test/hooks",
        ),
        endpoint("URL of another scheme", "ftp://example.test/hooks"),
        email("bad mail address", "to", "nobody at example", "Hello"),
        email(
            "line end in the address",
            "to",
            "a@example.test\r\nBcc: b@example.test",
            "Hello",
        ),
        email(
            "line end in the subject",
            "subject",
            "a@example.test",
            "Hello\r\nBcc: b@example.test",
        ),
        Case {
            status: 413,
            code: "payload_too_large",
            ..post(api, "2 MiB body", "/v1/messages", large)
        },
    ]
}

async fn bad_ids(api: &Api, other: &Tenant) -> Vec<Case> {
    let (foreign, _) = other.endpoint("http://127.0.0.1:9/", &[]).await;
    let (head, last) = foreign.split_at(foreign.len() - 1);
    let unknown = format!("{head}{}", if last == "0" { "1" } else { "0" });
    let not_found = |what, path: &str| get(api, what, path, 404, "not_found");
    vec![
        not_found("unknown id", &format!("/v1/endpoints/{unknown}")),
        not_found("another tenant's id", &format!("/v1/endpoints/{foreign}")),
        not_found("another kind's id", &format!("/v1/messages/{foreign}")),
        not_found("nonsense id", "/v1/messages/nonsense"),
        not_found("nonsense bytes", "/v1/deliveries/%27%20OR%201=1%00"),
    ]
}

async fn bad_requests(world: &World, tenant: &Tenant) -> Vec<Case> {
    let api = &tenant.api;
    let (key_id, revoked) = world.api_key(&tenant.id).await;
    let key_path = format!("/v1/tenants/{}/api-keys/{key_id}", tenant.id);
    api.with_key(&revoked).get("/v1/messages").await.expect(200);
    world.client.delete(&key_path).await.success();
    let message = json!({"event_type": "a.b", "payload": {}}).to_string();
    let unauthorized = |what, api: Api| Case {
        status: 401,
        code: "unauthorized",
        ..post(&api, what, "/v1/messages", message.clone())
    };
    vec![
        unauthorized("no key", api.without_key()),
        unauthorized("unknown key", api.with_key("rp_nonsense")),
        unauthorized("revoked key", api.with_key(&revoked)),
        get(api, "unknown route", "/v1/nonsense", 404, "route_not_found"),
        Case {
            method: Method::PUT,
            ..get(
                api,
                "wrong method",
                "/v1/messages",
                405,
                "method_not_allowed",
            )
        },
        get(
            api,
            "bad cursor",
            "/v1/messages?cursor=nonsense",
            400,
            "invalid_cursor",
        ),
    ]
}

/// What is wrong with an answer.
fn faults_of(case: &Case, answer: &Answer) -> Vec<String> {
    let body = &answer.body;
    let mut faults = Vec::new();
    let mut check = |ok: bool, fault: String| {
        if !ok {
            faults.push(fault);
        }
    };
    check(
        answer.status == case.status,
        format!("wanted status {}", case.status),
    );
    check(
        body["code"] == case.code,
        format!("wanted code {}", case.code),
    );
    check(
        body["status"] == answer.status,
        "`status` is not the answer's".to_owned(),
    );
    for field in ["type", "title", "detail", "code", "request_id"] {
        check(
            body[field].as_str().is_some_and(|text| !text.is_empty()),
            format!("no text `{field}`"),
        );
    }
    check(
        body["retryable"] == false,
        "`retryable` is not false".to_owned(),
    );
    let content_type = answer.header("content-type").unwrap_or_default();
    check(
        content_type.starts_with("application/problem+json"),
        format!("content-type {content_type}"),
    );
    check(
        answer.header("x-request-id") == body["request_id"].as_str(),
        "no matching x-request-id".to_owned(),
    );
    if let Some(field) = case.field {
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        let named = errors.iter().any(|error| {
            error["message"].is_string()
                && error["path"]
                    .as_str()
                    .is_some_and(|path| path.contains(field))
        });
        check(named, format!("no error names `{field}`"));
    }
    faults
}
