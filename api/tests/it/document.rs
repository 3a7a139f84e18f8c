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
        for field in ["operationId", "summary", "description"] {
            assert!(operation[field].is_string(), "{name}: no {field}");
        }
        assert_eq!(
            operation["tags"].as_array().map(Vec::len),
            Some(1),
            "{name}: tags"
        );
        // `keys.rs` lists those that anybody may call.
        let open = operation["security"][0].is_null();
        assert!(
            open || operation["security"][0]["ApiKey"] == serde_json::json!([]),
            "{name}: security"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses
                .keys()
                .any(|status| status.starts_with(['2', '3'])),
            "{name}: no success"
        );
        for (status, response) in responses
            .iter()
            .filter(|(status, _)| status.starts_with(['4', '5']))
        {
            let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{name}: {status}");
        }
        // Else no status could be called undocumented.
        assert!(!responses.contains_key("default"), "{name}: default");
        let body = operation["requestBody"].is_object();
        let asks = operation["security"].is_array();
        let wanted = ["429", "500", "503"].into_iter();
        let wanted = wanted.chain(["401", "403"].into_iter().filter(|_| asks));
        let wanted = wanted.chain(["413", "415", "422"].into_iter().filter(|_| body));
        for status in wanted {
            assert!(responses.contains_key(status), "{name}: {status}");
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
    }
}

#[test]
fn what_can_be_left_out_carries_no_example_that_swagger_ui_would_fill_in() {
    let document = document();
    let (mut filled_in, mut told) = (Vec::new(), 0);
    for (name, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if parameter["required"] == true {
                continue;
            }
            let texts = [parameter, &parameter["schema"]];
            if texts.iter().any(|at| {
                ["example", "examples"]
                    .iter()
                    .any(|key| at.get(key).is_some())
            }) {
                filled_in.push(format!("{name}: {}", parameter["name"]));
            }
            let description = parameter["description"].as_str().unwrap();
            told += usize::from(description.contains("Example: `"));
        }
    }
    assert_eq!(filled_in, [""; 0]);
    assert!(told > 10, "the examples are told in words");
}

/// A schema of the document as JSON Schema 2020-12 has it: `null` is a type there.
fn as_json_schema(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(as_json_schema),
        Value::Object(fields) => {
            fields.values_mut().for_each(as_json_schema);
            if fields.remove("nullable") == Some(Value::Bool(true)) {
                let rest = Value::Object(std::mem::take(fields));
                *schema = serde_json::json!({"anyOf": [{"type": "null"}, rest]});
            }
        }
        _ => {}
    }
}

#[test]
fn every_body_has_an_example_that_fits_it() {
    let document = document();
    let mut schemas = document["components"].clone();
    as_json_schema(&mut schemas);
    let mut shown = 0;
    for (name, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let answers = operation["responses"].as_object().unwrap().values();
        let answers =
            answers.flat_map(|answer| answer["content"].as_object().into_iter().flatten());
        let answers = answers.map(|(_, content)| &content["schema"]);
        let bodies = answers.chain([body].into_iter().filter(|body| body.is_object()));
        let one_of_several = |schema: &'_ Value| schema["oneOf"].as_array().cloned();
        for schema in bodies.flat_map(|one| one_of_several(one).unwrap_or(vec![one.clone()])) {
            let reference = schema["$ref"].as_str().expect("a schema with a name");
            let example = &document.pointer(&reference[1..]).unwrap()["example"];
            let wanted = serde_json::json!({"$ref": reference, "components": schemas});
            let fits = jsonschema::validate(&wanted, example);
            assert!(fits.is_ok(), "{name}: {reference}: {example}: {fits:?}");
            shown += 1;
        }
    }
    assert!(shown > 100, "there are bodies");
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

    // Browsers ask for it beside the page.
    let icon = api.anonymous().get("/favicon.ico").await;
    assert_eq!((icon.status, icon.bytes.len()), (204, 0));

    let page = api.anonymous().get("/docs").await;
    assert!(page.headers["content-type"].starts_with("text/html"));
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'"));
    assert!(!page.headers["content-security-policy"].contains("http"));
    let html = String::from_utf8(page.bytes).unwrap();
    assert!(html.contains("\"messages_publish\""));
    // Only the page's own tags can load something as it opens; addresses inside the script are data.
    let before_script = html.split("<script").next().unwrap();
    assert!(!before_script.contains("<link") && !before_script.contains("@import"));
    assert!(!html.contains("<script src") && !html.contains("<img src=\"http"));
    api.stop().await;
}
