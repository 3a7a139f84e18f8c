//! The OpenAPI document.

use std::path::Path;

use serde_json::Value;

use crate::api;

fn document() -> Value {
    serde_json::from_str(&relaypost_api::openapi()).unwrap()
}

/// Every operation, with what it is called in a complaint.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((format!("{method} {path}"), operation));
        }
    }
    operations
}

#[test]
fn the_committed_document_fits_the_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        committed == relaypost_api::openapi(),
        "api/openapi.json is out of date; mend it with: make openapi"
    );
}

#[test]
fn every_operation_is_named_grouped_and_documents_its_errors() {
    let document = document();
    for (name, operation) in operations(&document) {
        for field in ["operationId", "summary"] {
            assert!(operation[field].is_string(), "{name}: no {field}");
        }
        assert_eq!(
            operation["tags"].as_array().map(Vec::len),
            Some(1),
            "{name}: tags"
        );
        assert_eq!(
            operation["security"][0]["ApiKey"],
            serde_json::json!([]),
            "{name}: security"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{name}: no success"
        );
        for (status, response) in responses
            .iter()
            .filter(|(status, _)| !status.starts_with('2'))
        {
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{name}: {status}");
        }
        assert!(responses.contains_key("default"), "{name}: no default");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
    }
}

#[test]
fn every_schema_and_every_field_is_described() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let is_list_of_words = schema["enum"].is_array();
        assert!(
            schema["description"].is_string() || is_list_of_words,
            "{name}"
        );
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            // A list's items describe themselves.
            let described = schema["description"].is_string() || field == "data";
            assert!(described, "{name}.{field}");
        }
    }
}

#[tokio::test]
async fn the_document_and_the_page_are_served_and_ask_no_other_host() {
    let api = api().await;
    let served = api.anonymous().get("/openapi.json").await;
    assert_eq!(served.headers["content-type"], "application/json");
    assert_eq!(
        String::from_utf8(served.bytes).unwrap(),
        relaypost_api::openapi()
    );
    assert_eq!(served.body["servers"][0]["url"], "/");

    let page = api.anonymous().get("/docs").await;
    assert!(page.headers["content-type"].starts_with("text/html"));
    assert!(page.headers["content-security-policy"].starts_with("default-src 'self'"));
    assert!(!page.headers["content-security-policy"].contains("http"));
    let html = String::from_utf8(page.bytes).unwrap();
    assert!(html.contains("\"messages_publish\""));
    // Only the page's own tags can load something as it opens; addresses inside the script are data.
    let before_script = html.split("<script").next().unwrap();
    assert!(!before_script.contains("<link") && !before_script.contains("@import"));
    assert!(!html.contains("<script src") && !html.contains("<img src=\"http"));
    api.stop().await;
}
