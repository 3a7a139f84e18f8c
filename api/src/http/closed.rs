//! Bodies of requests have no other fields than the document lists: [`super::StrictJson`], which reads every body, refuses an
//! unknown one. The document says so as `"additionalProperties": false`, for which the framework's model of a schema has
//! no place, so it is put into the finished document.

use std::collections::HashSet;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where references to schemas lead.
const SCHEMAS: &str = "#/components/schemas/";
/// Where a schema holds several others.
const PARTS: [&str; 4] = ["properties", "allOf", "anyOf", "oneOf"];

/// JSON whose fields stay in their order, so that the document reads as the code does.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Json {
    Object(IndexMap<String, Json>),
    Array(Vec<Json>),
    Other(Value),
}

impl Json {
    fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.get(name),
            Self::Array(_) | Self::Other(_) => None,
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |json, name| json.field(name))
    }

    /// What an object or an array holds.
    fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Object(fields) => fields.values().collect(),
            Self::Array(items) => items.iter().collect(),
            Self::Other(_) => Vec::new(),
        }
    }

    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Other(value) => value.as_str(),
            Self::Object(_) | Self::Array(_) => None,
        }
    }
}

/// The document with `"additionalProperties": false` in every object of a request's body. What is no JSON is left as it is.
pub(crate) fn close_bodies(document: &str) -> String {
    let Ok(mut json) = serde_json::from_str::<Json>(document) else {
        return document.to_owned();
    };
    let names = of_bodies(&json);
    if let Json::Object(fields) = &mut json
        && let Some(Json::Object(components)) = fields.get_mut("components")
        && let Some(Json::Object(schemas)) = components.get_mut("schemas")
    {
        for (_, schema) in schemas.iter_mut().filter(|(name, _)| names.contains(*name)) {
            close(schema);
        }
    }
    serde_json::to_string_pretty(&json).unwrap_or_else(|_| document.to_owned())
}

/// The names of the schemas that bodies of requests consist of.
fn of_bodies(document: &Json) -> HashSet<String> {
    let paths = document.field("paths").map(Json::parts).unwrap_or_default();
    let operations = paths.into_iter().flat_map(Json::parts);
    let bodies = operations.filter_map(|operation| operation.at(&["requestBody", "content"]));
    let contents = bodies.flat_map(Json::parts);
    let mut open: Vec<&Json> = contents.filter_map(|one| one.field("schema")).collect();
    let mut names = HashSet::new();
    while let Some(schema) = open.pop() {
        let reference = schema.field("$ref").and_then(Json::as_str);
        if let Some(name) = reference.and_then(|text| text.strip_prefix(SCHEMAS)) {
            // An object that contains itself is looked at once.
            if names.insert(name.to_owned()) {
                open.extend(document.at(&["components", "schemas", name]));
            }
            continue;
        }
        let inside = PARTS.iter().filter_map(|parts| schema.field(parts));
        open.extend(inside.flat_map(Json::parts));
        open.extend(schema.field("items"));
    }
    names
}

/// Says of a schema that its object has no other fields, unless it has none or says itself what else it may have.
fn close(schema: &mut Json) {
    const FIELD: &str = "additionalProperties";
    let Json::Object(schema) = schema else { return };
    if let Some(at) = schema.get_index_of("properties")
        && !schema.contains_key(FIELD)
    {
        let none = Json::Other(Value::Bool(false));
        schema.shift_insert(at + 1, FIELD.to_owned(), none);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_of_bodies_are_closed_and_everything_else_stays() {
        let reference = |name: &str| json!({"$ref": format!("{SCHEMAS}{name}")});
        let (new, shown) = (reference("New"), reference("Shown"));
        let content = |schema| json!({"application/json": {"schema": schema}});
        let part =
            json!({"type": "object", "properties": {"n": {"type": "number", "minimum": 1.0}}});
        let free = json!({"type": "object", "additionalProperties": {"type": "string"}});
        let new = json!({"type": "object", "properties": {
            "parts": {"type": "array", "items": reference("Part")},
            "again": {"allOf": [new, {"nullable": true}]},
            "free": reference("Free"),
        }});
        let document = json!({
            "paths": {"/": {"post": {
                "requestBody": {"content": content(reference("New"))},
                "responses": {"200": {"content": content(shown)}},
            }}},
            "components": {"schemas": {"Free": free, "New": new, "Part": part, "Shown": part}},
        });
        let closed = close_bodies(&document.to_string());
        let mut wanted = document;
        for name in ["New", "Part"] {
            wanted["components"]["schemas"][name]["additionalProperties"] = json!(false);
        }
        assert_eq!(serde_json::from_str::<Value>(&closed).unwrap(), wanted);
        assert_eq!(close_bodies(&closed), closed);
        assert!(closed.contains("\"minimum\": 1.0"), "{closed}");
    }

    #[test]
    fn fields_stay_in_their_order() {
        let document = r#"{"b":1,"a":[{"z":null,"y":"x"}]}"#;
        let closed = close_bodies(document).replace(char::is_whitespace, "");
        assert_eq!(closed, document);
    }
}
