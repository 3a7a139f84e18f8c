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
mod tests;
