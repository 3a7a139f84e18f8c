//! A compiled JSON Schema, and what it says about a payload.

use std::fmt;

use jsonschema::{
    PatternOptions, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
    paths::{Location, LocationSegment},
};
use serde_json::Value;

use super::work::{self, TooMuch};
use crate::http::FieldError;

/// The longest schema, in bytes of compact JSON.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// How many patterns a schema has at most, and how large one is compiled.
const MAX_PATTERNS: usize = 100;
const PATTERN_BYTES: usize = 128 * 1024;
const PATTERN_CACHE_BYTES: usize = 1024 * 1024;
/// How many mistakes are told, and up to how many characters of each.
const MAX_ERRORS: usize = 20;
const MAX_MESSAGE: usize = 300;
const MAX_NAME: usize = 100;
/// What finding all mistakes may cost: the validator keeps each until it has them all, and a payload can be wrong in more
/// places than anybody reads.
const TELLING: u64 = 100_000;

/// What is wrong with a payload, or nothing.
pub(crate) type Findings = Result<(), Vec<FieldError>>;

/// A compiled schema.
pub(super) struct Schema {
    validator: Validator,
    /// About how many bytes of memory it takes.
    pub(super) weight: usize,
}

impl Schema {
    /// Compiles a schema: of the draft that its `$schema` names, else of 2020-12. Nothing is fetched. `format` is
    /// checked. Patterns are matched in linear time, so that they know no look-around and no back-references.
    ///
    /// # Errors
    /// What is wrong with it, with a path that begins with `schema`.
    pub(super) fn compile(schema: &Value) -> Result<Self, FieldError> {
        let whole = |message: String| FieldError {
            path: "schema".to_owned(),
            message,
        };
        if !schema.is_object() {
            return Err(whole("expected an object".to_owned()));
        }
        let len = schema.to_string().len();
        if len > MAX_BYTES {
            return Err(whole(format!("expected at most {MAX_BYTES} bytes")));
        }
        let patterns = patterns(schema);
        if patterns > MAX_PATTERNS {
            return Err(whole(format!("expected at most {MAX_PATTERNS} patterns")));
        }
        let mut counted = schema.clone();
        work::count(&mut counted);
        let patterns_as = PatternOptions::regex()
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_CACHE_BYTES);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns_as)
            .should_validate_formats(true)
            .with_keyword(work::KEYWORD, work::keyword)
            .build(&counted)
            .map_err(|error| refusal(&error))?;
        Ok(Self {
            validator,
            weight: 64 * len + patterns * (PATTERN_BYTES + PATTERN_CACHE_BYTES),
        })
    }

    /// Checks a payload, as the JSON text that it is.
    ///
    /// # Errors
    /// [`TooMuch`] when it costs more than `budget`.
    pub(super) fn check(&self, payload: &str, budget: u64) -> Result<Findings, TooMuch> {
        let value: Value = match serde_json::from_str(payload) {
            Ok(value) => value,
            Err(error) => return Ok(Err(vec![unreadable(&error)])),
        };
        if work::within(budget, || self.validator.is_valid(&value))? {
            return Ok(Ok(()));
        }
        let all = work::within(TELLING, || {
            let errors = self.validator.iter_errors(&value).take(MAX_ERRORS);
            errors
                .flat_map(|error| tell(&error))
                .take(MAX_ERRORS)
                .collect()
        });
        // Too many to find them all: the first one alone.
        let first = || {
            work::within(budget.max(TELLING), || {
                let first = self.validator.validate(&value).err();
                first.map(|error| tell(&error)).unwrap_or_default()
            })
        };
        let errors: Vec<FieldError> = all.or_else(|_| first()).unwrap_or_default();
        if errors.is_empty() {
            return Ok(Err(vec![payload_fault("does not fit the schema")]));
        }
        Ok(Err(errors))
    }
}

/// What is wrong with the payload as a whole.
pub(super) fn payload_fault(message: impl Into<String>) -> FieldError {
    FieldError {
        path: "payload".to_owned(),
        message: message.into(),
    }
}

/// It was JSON when the request was read, but not all JSON is a value that a schema can look at.
fn unreadable(error: &serde_json::Error) -> FieldError {
    let message = error.to_string();
    let (what, _) = message.rsplit_once(" at line ").unwrap_or((&message, ""));
    payload_fault(format!("cannot be checked against the schema: {what}"))
}

fn patterns(schema: &Value) -> usize {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let own = match (name.as_str(), value) {
                    ("pattern", Value::String(_)) => 1,
                    ("patternProperties", Value::Object(by_pattern)) => by_pattern.len(),
                    _ => 0,
                };
                own + patterns(value)
            })
            .sum(),
        Value::Array(items) => items.iter().map(patterns).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// An error of the validator as the API tells mistakes: one for each property that is missing or not wanted.
fn tell(error: &ValidationError<'_>) -> Vec<FieldError> {
    use ValidationErrorKind as Kind;
    let parent = place("payload", error.instance_path());
    let at = |name: &str, message: &str| FieldError {
        path: format!("{parent}.{}", cut(name, MAX_NAME)),
        message: message.to_owned(),
    };
    match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![at(name, "is missing")]
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let unexpected = unexpected.iter().take(MAX_ERRORS);
            unexpected
                .map(|name| at(name, "is not a property that the schema knows"))
                .collect()
        }
        _ => vec![told("payload", error)],
    }
}

fn refusal(error: &ValidationError<'_>) -> FieldError {
    match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => FieldError {
            path: place("schema", error.instance_path()),
            message:
                "expected a regular expression that is not too large, without look-around and \
                      back-references"
                    .to_owned(),
        },
        _ => told("schema", error),
    }
}

/// An error without the value that is wrong: a payload is not repeated.
fn told(root: &str, error: &ValidationError<'_>) -> FieldError {
    use ValidationErrorKind as Kind;
    let message = match error.kind() {
        Kind::Type {
            kind: TypeKind::Single(kind),
        } => format!("expected the type {kind}"),
        Kind::Type {
            kind: TypeKind::Multiple(kinds),
        } => {
            let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("expected one of the types {}", kinds.join(", "))
        }
        Kind::FalseSchema => "is not allowed here".to_owned(),
        Kind::UnevaluatedItems { .. } => "has items that the schema does not know".to_owned(),
        Kind::PropertyNames { error } => {
            format!("has a name that does not fit: {}", error.masked_with("it"))
        }
        _ => error.masked_with("the value").to_string(),
    };
    FieldError {
        path: place(root, error.instance_path()),
        message: cut(&message, MAX_MESSAGE),
    }
}

/// `payload.items[2].price`.
fn place(root: &str, location: &Location) -> String {
    let mut path = root.to_owned();
    for segment in location.segments() {
        match segment {
            LocationSegment::Property(name) => {
                path.push('.');
                path.push_str(&cut(&name, MAX_NAME));
            }
            LocationSegment::Index(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    const PLENTY: u64 = 2_000_000;

    fn errors(schema: &Value, payload: &str) -> Vec<(String, String)> {
        let schema = Schema::compile(schema).unwrap();
        let findings = schema.check(payload, PLENTY).unwrap();
        let errors = findings.err().unwrap_or_default().into_iter();
        errors.map(|error| (error.path, error.message)).collect()
    }

    fn refused(schema: &Value) -> FieldError {
        Schema::compile(schema).unwrap_err()
    }

    #[test]
    fn every_mistake_is_told_with_its_place_and_without_the_value() {
        let schema = json!({
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": {
                    "type": "object",
                    "properties": {"price": {"type": "number", "minimum": 0}, "sku": {"pattern": "^[A-Z]+$"}},
                    "required": ["price"],
                }},
                "at": {"type": "string", "format": "date-time"},
                "state": {"enum": ["open", "closed"]},
                "a.b": {"type": ["string", "null"]},
            },
            "additionalProperties": false,
        });
        let payload = r#"{"items": [{"price": 1}, {"sku": "tok_secret"}, {"price": -4711}], "at": "tok_secret",
            "state": "tok_secret", "a.b": 4711, "tok_name": "tok_secret"}"#;
        let errors = errors(&schema, payload);
        for (path, words) in [
            ("payload.items[1].price", "is missing"),
            ("payload.items[1].sku", "does not match \"^[A-Z]+$\""),
            ("payload.items[2].price", "less than the minimum of 0"),
            ("payload.at", "date-time"),
            ("payload.state", "\"open\""),
            ("payload.a.b", "null"),
            ("payload.tok_name", "is not a property"),
        ] {
            let told = errors.iter().find(|(at, _)| at == path);
            let (_, message) = told.unwrap_or_else(|| panic!("{path} in {errors:?}"));
            assert!(message.contains(words), "{path}: {message}");
            assert!(
                !message.contains("tok_") && !message.contains("4711"),
                "{message}"
            );
        }
        assert_eq!(errors.len(), 7, "{errors:?}");
    }

    #[test]
    fn of_many_mistakes_some_are_told() {
        let schema = json!({"items": {"type": "string"}});
        let payload = |items: usize| json!(vec![0; items]).to_string();
        assert_eq!(errors(&schema, &payload(1_000)).len(), MAX_ERRORS);
        // Too many to look at each of them.
        let few = errors(&schema, &payload(400_000));
        assert_eq!((few.len(), few[0].0.as_str()), (1, "payload[0]"));
        let names: serde_json::Map<String, Value> =
            (0..100).map(|n| (format!("n{n}"), json!(1))).collect();
        let schema = json!({"properties": {"a": {}}, "additionalProperties": false});
        let all = errors(&schema, &json!(names).to_string());
        assert_eq!(all.len(), MAX_ERRORS, "{all:?}");
    }

    #[test]
    fn what_json_cannot_carry_as_a_value_does_not_fit() {
        let schema = json!({"type": "number"});
        assert_eq!(errors(&schema, "1"), []);
        for payload in ["1e400".to_owned(), "[".repeat(200) + &"]".repeat(200)] {
            let errors = errors(&schema, &payload);
            assert_eq!(errors[0].0, "payload", "{errors:?}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        for (schema, path) in [
            (json!(true), "schema"),
            (json!([]), "schema"),
            (json!({"type": "strin"}), "schema.type"),
            (
                json!({"properties": {"a": {"minimum": "1"}}}),
                "schema.properties.a.minimum",
            ),
            (json!({"required": "a"}), "schema.required"),
            (json!({"pattern": "("}), "schema.pattern"),
            // Matched in linear time or not at all.
            (json!({"pattern": "^(?!a)"}), "schema.pattern"),
            (json!({"pattern": r"(a)\1"}), "schema.pattern"),
            (json!({"pattern": "((a{100}){100}){100}"}), "schema.pattern"),
            (json!({"$comment": "x".repeat(70_000)}), "schema"),
        ] {
            let error = refused(&schema);
            assert!(error.path.starts_with(path), "{schema}: {error:?}");
            assert!(
                error.message.chars().count() <= MAX_MESSAGE + 1,
                "{error:?}"
            );
        }
        let patterns: Vec<Value> = (0..101)
            .map(|n| json!({"pattern": format!("{n}")}))
            .collect();
        assert_eq!(refused(&json!({"anyOf": patterns})).path, "schema");
    }

    #[test]
    fn nothing_is_fetched() {
        for schema in [
            json!({"$ref": "https://example.com/schema.json"}),
            json!({"$ref": "file:///etc/hostname"}),
            json!({"$id": "https://example.com/a.json", "properties": {"b": {"$ref": "b.json"}}}),
            json!({"$schema": "https://example.com/own-draft"}),
            json!({"$dynamicRef": "https://example.com/schema.json#node"}),
        ] {
            let error = refused(&schema);
            assert!(error.path.starts_with("schema"), "{error:?}");
        }
        let own = json!({
            "$id": "https://example.com/a.json", "$defs": {"b": {"type": "string"}},
            "properties": {"b": {"$ref": "#/$defs/b"}, "c": {"$ref": "https://example.com/a.json#/$defs/b"}},
        });
        assert_eq!(errors(&own, r#"{"b": 1, "c": "x"}"#).len(), 1);
    }

    #[test]
    fn every_draft_is_taken_at_its_word() {
        for draft in [
            "http://json-schema.org/draft-04/schema#",
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
            "https://json-schema.org/draft/2020-12/schema",
        ] {
            let schema = json!({
                "$schema": draft, "definitions": {"id": {"type": "string", "minLength": 2}},
                "properties": {"id": {"$ref": "#/definitions/id"}}, "required": ["id"],
            });
            assert_eq!(errors(&schema, r#"{"id": "ab"}"#), [], "{draft}");
            assert_eq!(errors(&schema, r#"{"id": "a"}"#).len(), 1, "{draft}");
        }
    }

    /// Schemas and payloads whose full check would take longer than anybody waits, or would never end.
    #[test]
    fn no_schema_makes_a_check_endless() {
        let mut doubling = serde_json::Map::new();
        for n in 0..60 {
            let next = json!({"$ref": format!("#/$defs/a{}", n + 1)});
            doubling.insert(
                format!("a{n}"),
                json!({"allOf": [next, next, {"anyOf": [next, next]}]}),
            );
        }
        doubling.insert("a60".to_owned(), json!({"type": "string"}));
        let again = json!({"$ref": "#"});
        let deep = "{\"c\":".repeat(100) + "1" + &"}".repeat(100);
        let many_patterns: serde_json::Map<String, Value> = (0..100)
            .map(|n| (format!("{n}x"), json!({"type": "string"})))
            .collect();
        let many_names: serde_json::Map<String, Value> =
            (0..50_000).map(|n| (format!("{n}"), json!(1))).collect();
        let draft_7 = "http://json-schema.org/draft-07/schema#";
        let cases = [
            (
                json!({"$defs": doubling, "$ref": "#/$defs/a0"}),
                "1".to_owned(),
            ),
            (
                json!({"not": {"$defs": doubling, "$ref": "#/not/$defs/a0"}}),
                "1".to_owned(),
            ),
            (
                json!({"properties": {"c": {"oneOf": [again, again, {"not": again}]}}, "type": "object"}),
                deep.clone(),
            ),
            (
                json!({"properties": {"c": {"allOf": [again, again]}}, "unevaluatedProperties": false}),
                deep,
            ),
            (json!({"$ref": "#"}), "1".to_owned()),
            (json!({"$schema": draft_7, "$ref": "#"}), "1".to_owned()),
            (
                json!({"$schema": draft_7, "definitions": {
                    "a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"},
                }, "$ref": "#/definitions/a"}),
                "1".to_owned(),
            ),
            (json!({"allOf": [again, {"not": again}]}), "1".to_owned()),
            (
                json!({"$dynamicAnchor": "n", "anyOf": [{"$dynamicRef": "#n"}, {"type": "null"}]}),
                "1".to_owned(),
            ),
            (
                json!({"patternProperties": many_patterns}),
                json!(many_names).to_string(),
            ),
            (
                json!({"items": {"enum": (0..10_000).collect::<Vec<_>>()}}),
                json!(vec![-1; 400_000]).to_string(),
            ),
            (
                json!({"uniqueItems": true}),
                json!((0..300_000).collect::<Vec<_>>()).to_string(),
            ),
            (
                json!({"pattern": "(?:[ab]{1,99}c?){1,20}d"}),
                json!("ab".repeat(500_000)).to_string(),
            ),
        ];
        for (schema, payload) in cases {
            let text = schema.to_string();
            let text: String = text.chars().take(100).collect();
            let began = Instant::now();
            let compiled = Schema::compile(&schema);
            let built = began.elapsed();
            let checked = compiled.map(|schema| schema.check(&payload, 20_000_000));
            let outcome = checked.map(|checked| checked.map(|findings| findings.is_ok()));
            println!(
                "{:?} build, {:?} in all: {outcome:?} {text}",
                built,
                began.elapsed()
            );
            assert!(
                began.elapsed().as_secs() < 10,
                "{:?}: {text}",
                began.elapsed()
            );
        }
    }
}
