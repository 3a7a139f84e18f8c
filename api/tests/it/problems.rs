//! Whatever goes wrong comes out in one shape.

use poem::http::Method;
use serde_json::json;

use crate::{Answer, api, support::Client};

struct Case {
    what: &'static str,
    client: Client,
    method: Method,
    path: String,
    body: Option<Vec<u8>>,
    status: u16,
    code: &'static str,
    path_of_error: Option<&'static str>,
}

fn post(client: &Client, what: &'static str, path: &str, body: impl Into<Vec<u8>>) -> Case {
    Case {
        what,
        client: client.clone(),
        method: Method::POST,
        path: path.to_owned(),
        body: Some(body.into()),
        status: 422,
        code: "validation_failed",
        path_of_error: None,
    }
}

fn get(client: &Client, path: &str, status: u16, code: &'static str) -> Case {
    Case {
        method: Method::GET,
        body: None,
        status,
        code,
        ..post(client, "get", path, "")
    }
}

fn bodies(client: &Client) -> Vec<Case> {
    let malformed = |what, body: &[u8]| Case {
        status: 400,
        code: "malformed_json",
        ..post(client, what, "/v1/messages", body)
    };
    let message = |what, field, body: &str| Case {
        path_of_error: Some(field),
        ..post(client, what, "/v1/messages", body)
    };
    let media = |what, content_type| Case {
        status: 415,
        code: "unsupported_media_type",
        ..post(
            &client.header("content-type", content_type),
            what,
            "/v1/messages",
            "{}",
        )
    };
    let encoded = |what, encoding| Case {
        status: 415,
        code: "unsupported_media_type",
        ..post(
            &client.header("content-encoding", encoding),
            what,
            "/v1/messages",
            r#"{"event_type": "a", "payload": 1}"#,
        )
    };
    vec![
        encoded("compressed", "gzip"),
        encoded("compressed after nothing", "identity, br"),
        malformed("no body", b""),
        malformed("a list that is cut off", b"[\"a\", 1"),
        message("fields by their places", "", r#"["a", 1]"#),
        message("null", "", "null"),
        message("a number", "", "7"),
        message("a string", "", r#""a""#),
        malformed("cut off", b"{\"event_type\": \"a"),
        malformed("not UTF-8", b"{\"event_type\": \"\xff\", \"payload\": 1}"),
        malformed(
            "not UTF-8 in the payload",
            b"{\"event_type\": \"a\", \"payload\": \"\xff\"}",
        ),
        malformed(
            "more after it",
            b"{\"event_type\": \"a\", \"payload\": 1} 2",
        ),
        message(
            "wrong type",
            "event_type",
            r#"{"event_type": 7, "payload": 1}"#,
        ),
        message(
            "wrong nested type",
            "channels[1]",
            r#"{"event_type": "a", "payload": 1, "channels": ["x", 7]}"#,
        ),
        message("missing field", "payload", r#"{"event_type": "a"}"#),
        message(
            "unknown field",
            "colour",
            r#"{"event_type": "a", "payload": 1, "colour": "red"}"#,
        ),
        message(
            "a field of a later release",
            "ordering",
            r#"{"event_type": "a", "payload": 1, "ordering": "fifo"}"#,
        ),
        message(
            "repeated field",
            "event_type",
            r#"{"event_type": "a", "payload": 1, "event_type": "b"}"#,
        ),
        message(
            "empty name",
            "event_type",
            r#"{"event_type": "", "payload": 1}"#,
        ),
        message(
            "U+0000 in a name",
            "event_type",
            r#"{"event_type": "a\u0000", "payload": 1}"#,
        ),
        message(
            "U+0000 in the metadata",
            "metadata",
            r#"{"event_type": "a", "payload": 1, "metadata": {"a": ["\u0000"]}}"#,
        ),
        message(
            "no time",
            "deliver_at",
            r#"{"event_type": "a", "payload": 1, "deliver_at": "soon"}"#,
        ),
        media("a form", "application/x-www-form-urlencoded"),
        media("text", "text/plain"),
        Case {
            status: 413,
            code: "payload_too_large",
            ..post(client, "2 MiB", "/v1/messages", vec![b' '; 2 << 20])
        },
    ]
}

#[tokio::test]
async fn bad_requests_are_refused_in_one_shape_and_store_nothing() {
    let api = api().await;
    let tenant = api.tenant().await;
    let client = &tenant.api;
    let mut cases = bodies(client);
    cases.extend([
        get(client, "/v1/nonsense", 404, "route_not_found"),
        get(client, "/v1/messages/nonsense", 404, "not_found"),
        get(client, "/v1/deliveries/%27%20OR%201=1%00", 404, "not_found"),
        get(client, "/v1/deliveries/%ff", 404, "not_found"),
        get(
            client,
            "/v1/messages?cursor=nonsense",
            400,
            "invalid_cursor",
        ),
        get(client, "/v1/messages?cursor=", 400, "invalid_cursor"),
        get(client, "/v1/messages?limit=0", 400, "invalid_parameter"),
        get(client, "/v1/messages?limit=101", 400, "invalid_parameter"),
        get(client, "/v1/messages?limit=many", 400, "invalid_parameter"),
        get(
            client,
            "/v1/messages?event_type=%00",
            400,
            "invalid_parameter",
        ),
        get(
            client,
            "/v1/deliveries?status=lost",
            400,
            "invalid_parameter",
        ),
        get(
            client,
            "/v1/deliveries?endpoint_id=nonsense",
            400,
            "invalid_parameter",
        ),
        get(
            client,
            "/v1/deliveries?endpoint=nonsense",
            400,
            "invalid_parameter",
        ),
        get(
            client,
            "/v1/deliveries?since=yesterday",
            400,
            "invalid_parameter",
        ),
        get(&api.anonymous(), "/v1/messages", 401, "unauthorized"),
        get(&api.root(), "/v1/messages", 400, "tenant_required"),
        Case {
            method: Method::PUT,
            ..get(client, "/v1/messages", 405, "method_not_allowed")
        },
        Case {
            method: Method::POST,
            ..get(client, "/health", 405, "method_not_allowed")
        },
    ]);
    let mut complaints = Vec::new();
    for case in cases {
        let answer = case.client.send(case.method, &case.path, case.body).await;
        let mut faults = answer.faults(case.status, case.code);
        if let Some(path) = case.path_of_error
            && answer.body["errors"][0]["path"] != path
        {
            faults.push(format!("no error at `{path}`"));
        }
        if !faults.is_empty() {
            complaints.push(format!(
                "{}: {}\n    {answer}",
                case.what,
                faults.join("; ")
            ));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    let stored = client.get("/v1/messages").await.expect(200);
    assert_eq!(stored["data"], json!([]));
    api.stop().await;
}

#[tokio::test]
async fn refusals_carry_the_headers_that_http_asks_for() {
    let api = api().await;
    let tenant = api.tenant().await;
    let header = |answer: &Answer, name: &str| answer.headers.get(name).cloned();
    let refused = api.anonymous().get("/v1/messages").await;
    assert_eq!(
        header(&refused, "www-authenticate").as_deref(),
        Some("Bearer")
    );
    let path = "/v1/endpoints/ep_01kf9v8tj0fgx9tbjzg45p9hz2";
    let refused = tenant.api.send(Method::PUT, path, None).await;
    assert_eq!(
        header(&refused, "allow").as_deref(),
        Some("GET, PATCH, DELETE")
    );
    api.stop().await;
}

#[tokio::test]
async fn a_request_keeps_the_id_that_it_came_with_if_that_is_a_plain_one() {
    let api = api().await;
    let tenant = api.tenant().await;
    for (sent, kept) in [
        ("order-42_a.B", true),
        (&"x".repeat(128), true),
        (&"x".repeat(129), false),
        ("with space", false),
        ("", false),
    ] {
        let answer = tenant
            .api
            .header("x-request-id", sent)
            .get("/v1/nonsense")
            .await;
        let echoed = &answer.headers["x-request-id"];
        assert_eq!(echoed == sent, kept, "{sent}: {echoed}");
        assert!(kept || echoed.starts_with("req_"), "{sent}: {echoed}");
    }
    api.stop().await;
}
