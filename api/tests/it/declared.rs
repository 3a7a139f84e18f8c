//! Holds every answer that a test gets to the OpenAPI document: the operation lists the status, and names the `code` of
//! every error that does not follow from what it takes. So an error that an operation does not declare fails the test that
//! meets it.

use std::sync::LazyLock;

use poem::http::Method;
use serde_json::Value;

use crate::Answer;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&relaypost_api::openapi()).unwrap());

/// Errors that follow from what an operation takes, or that any operation can answer with. The document describes them by
/// their status alone.
const IMPLIED: [&str; 21] = [
    "forbidden",
    "idempotency_key_in_use",
    "idempotency_key_reused",
    "internal",
    "invalid_cursor",
    "invalid_parameter",
    "malformed_json",
    "not_found",
    "payload_too_large",
    "rate_limited",
    "request_timeout",
    "secret_unreadable",
    "storage_full",
    "tenant_required",
    "too_many_in_flight",
    "took_too_long",
    "unauthorized",
    "unavailable",
    "unsupported_media_type",
    "uri_too_long",
    "validation_failed",
];

/// The operation that a request went to; nothing when the document has none there.
pub(crate) fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap_or_default();
    let given: Vec<&str> = path.split('/').collect();
    let fits = |pattern: &str| {
        let wanted: Vec<&str> = pattern.split('/').collect();
        let mut segments = wanted.iter().zip(&given);
        wanted.len() == given.len()
            && segments.all(|(wanted, given)| wanted == given || wanted.starts_with('{'))
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let (_, methods) = paths
        .iter()
        .filter(|(pattern, _)| fits(pattern))
        .min_by_key(|(pattern, _)| pattern.matches('{').count())?;
    methods.get(method.as_str().to_ascii_lowercase())
}

/// Fails when the operation does not declare this answer.
pub(crate) fn hold(method: &Method, path: &str, answer: &Answer) {
    // Whatever is asked for: it is refused before there is an operation, as every server refuses it.
    if answer.body["code"] == "headers_too_large" {
        return;
    }
    let Some(operation) = operation(method, path) else {
        return;
    };
    let fault = fault(operation, answer.status, answer.body["code"].as_str());
    assert!(
        fault.is_none(),
        "{} does not declare {}: {answer}",
        operation["operationId"],
        fault.unwrap_or_default()
    );
}

/// The status or the code that an operation does not declare.
fn fault(operation: &Value, status: u16, code: Option<&str>) -> Option<String> {
    let response = &operation["responses"][status.to_string()];
    if response.is_null() {
        return Some(status.to_string());
    }
    let code = code.filter(|code| status >= 400 && !IMPLIED.contains(code))?;
    let description = response["description"].as_str().unwrap_or_default();
    let named = description.contains(&format!("`{code}`"));
    (!named).then(|| code.to_owned())
}

#[test]
fn an_answer_that_an_operation_does_not_declare_is_a_fault() {
    let cancel = operation(&Method::POST, "/v1/messages/msg_1/cancel?a=1").unwrap();
    assert_eq!(cancel["operationId"], "messages_cancel");
    let fault = |status, code| fault(cancel, status, code);
    assert_eq!(fault(200, None), None);
    assert_eq!(fault(202, None), Some("202".to_owned()));
    assert_eq!(fault(404, Some("not_found")), None);
    assert_eq!(
        fault(413, Some("payload_too_large")),
        Some("413".to_owned())
    );
    assert_eq!(fault(409, Some("too_late")), None);
    let other = "already_cancelled";
    assert_eq!(fault(409, Some(other)), Some(other.to_owned()));
    // The path that says more is the one that the router takes.
    let list = operation(&Method::GET, "/v1/emails/dlq").unwrap();
    assert_eq!(list["operationId"], "emails_dlq_list");
    assert_eq!(operation(&Method::PUT, "/v1/emails/dlq"), None);
    assert_eq!(operation(&Method::GET, "/health"), None);
}
