//! A compiled JSON Schema, and what it says about a payload.

use std::{
    fmt,
    time::{Duration, Instant},
};

use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
    paths::{Location, LocationSegment},
};
use referencing::SPECIFICATIONS;
use serde_json::Value;

use super::{
    costly,
    counted::{Counted, Seen},
    patterns::{self, Patterns},
    unfold::Unfolded,
    work::{Limits, TooMuch, within},
};
use crate::http::{ApiError, Code, FieldError};

/// The longest schema, in bytes of compact JSON.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// How many patterns a schema has at most.
const MAX_PATTERNS: usize = 100;
/// How many mistakes are told, and up to how many characters of each.
const MAX_ERRORS: usize = 20;
const MAX_MESSAGE: usize = 300;
const MAX_NAME: usize = 100;
/// What finding all mistakes may cost, in steps: the validator keeps each until it has them all, and a payload can be
/// wrong in more places than anybody reads.
const TELLING: u64 = 100_000;
/// How long a check takes at most on a thread that answers requests.
const LITTLE: Duration = Duration::from_millis(1);
/// Bytes of memory that a schema or property takes that is unfolded.
const UNFOLDED: usize = 512;

/// What is wrong with a payload, or nothing.
pub(crate) type Findings = Result<(), Vec<FieldError>>;

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no schema, or one that this service does not take.
    Invalid(FieldError),
    /// It costs too much, whatever the payload.
    TooExpensive(FieldError),
}

impl Refusal {
    /// The schema as a whole is not valid.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(whole(&message.into()))
    }

    /// The schema as a whole costs too much.
    pub(super) fn too_expensive(message: impl Into<String>) -> Self {
        Self::TooExpensive(whole(&message.into()))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(error) => Self::invalid(vec![error]),
            Refusal::TooExpensive(error) => Self::of_fields(Code::SchemaTooExpensive, vec![error]),
        }
    }
}

fn whole(message: &str) -> FieldError {
    FieldError {
        path: "schema".to_owned(),
        message: cut(message, MAX_MESSAGE),
    }
}

/// What checking one payload may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    /// Steps for the answer whether it fits.
    pub(super) steps: u64,
    /// Steps for telling what is wrong with it.
    pub(super) telling: u64,
    /// Bytes of the stack.
    pub(super) stack: usize,
    /// When it has to be over, and how many steps are paid for between two looks at the clock.
    pub(super) until: Option<Instant>,
    pub(super) slice: u64,
    /// Whether fewer mistakes are told when telling all of them costs too much. Else that is [`TooMuch`].
    pub(super) tell_fewer: bool,
}

/// A compiled schema.
pub(super) struct Schema {
    validator: Validator<Counted>,
    /// What a byte of a property's name costs, in sixteenths of a step.
    name_byte: u64,
    /// About how many bytes of memory it takes.
    pub(super) weight: usize,
}

impl Schema {
    /// Compiles a schema: of the draft that its `$schema` names, else of 2020-12. Nothing is fetched. `format` is
    /// checked. Patterns are matched in linear time, so that they know no look-around and no back-references.
    ///
    /// # Errors
    /// What is wrong with it, with a path that begins with `schema`.
    pub(super) fn compile(schema: &Value) -> Result<Self, Refusal> {
        if !schema.is_object() {
            return Err(Refusal::invalid("expected an object"));
        }
        let len = schema.to_string().len();
        if len > MAX_BYTES {
            return Err(Refusal::invalid(format!(
                "expected at most {MAX_BYTES} bytes"
            )));
        }
        let patterns = Patterns::of(schema);
        if patterns.number > MAX_PATTERNS {
            return Err(Refusal::invalid(format!(
                "expected at most {MAX_PATTERNS} patterns"
            )));
        }
        // Before it is compiled: the library unfolds some of it then.
        let unfolded = Unfolded::of(schema)?;
        let unusable = |error: ValidationError<'_>| Refusal::Invalid(refusal(&error));
        let validator = jsonschema::options_for::<Counted>()
            .offline()
            .with_registry(&SPECIFICATIONS)
            .with_pattern_options(patterns::options())
            .should_validate_formats(true)
            .with_format(costly::REGEX, costly::regex().map_err(unusable)?)
            .with_keyword(costly::MULTIPLE_OF, costly::multiple_of)
            .with_keyword(patterns::KEYWORD, patterns::keyword)
            .build(&unfolded.counted(schema)?)
            .map_err(unusable)?;
        Ok(Self {
            validator,
            name_byte: 1 + patterns.of_names.saturating_mul(2),
            weight: 64 * len
                + patterns.number * (patterns::BYTES + patterns::CACHE_BYTES)
                + UNFOLDED * unfolded.unrolled(),
        })
    }

    /// Checks a payload, as the JSON text that it is. Also says how many steps it has taken.
    ///
    /// # Errors
    /// [`TooMuch`] when it costs more than is allowed.
    pub(super) fn check(
        &self,
        payload: &str,
        allowed: &Allowed,
    ) -> Result<(Findings, u64), TooMuch> {
        let value: Value = match serde_json::from_str(payload) {
            Ok(value) => value,
            Err(error) => return Ok((Err(vec![unreadable(&error)]), 0)),
        };
        let limits = Limits {
            steps: allowed.steps,
            stack: allowed.stack,
            until: allowed.until,
            slice: allowed.slice,
            name_byte: self.name_byte,
        };
        let (fits, steps) = within(&limits, || self.validator.is_valid(Seen(&value)))?;
        if fits {
            return Ok((Ok(()), steps));
        }
        let telling = Limits {
            steps: allowed.telling,
            ..limits
        };
        let (errors, telling) = match within(&telling, || self.all_mistakes(&value)) {
            Err(TooMuch) if allowed.tell_fewer => {
                within(&limits, || self.first_mistake(&value)).unwrap_or_default()
            }
            told => told?,
        };
        let errors = match errors.is_empty() {
            true => vec![payload_fault("does not fit the schema")],
            false => errors,
        };
        Ok((Err(errors), steps + telling))
    }

    fn all_mistakes(&self, value: &Value) -> Vec<FieldError> {
        let errors = self.validator.iter_errors(Seen(value)).take(MAX_ERRORS);
        errors
            .flat_map(|error| tell(&error))
            .take(MAX_ERRORS)
            .collect()
    }

    fn first_mistake(&self, value: &Value) -> Vec<FieldError> {
        let first = self.validator.validate(Seen(value)).err();
        first.map(|error| tell(&error)).unwrap_or_default()
    }
}

impl Allowed {
    /// What a check may cost at most: about half a second.
    pub(super) const fn at_most(stack: usize, until: Option<Instant>) -> Self {
        Self {
            steps: 10_000_000,
            telling: TELLING,
            stack,
            until,
            slice: 1_024,
            tell_fewer: true,
        }
    }

    /// What a check that begins now may cost on a thread that answers requests: about a quarter of a millisecond, and in
    /// no case much more than [`LITTLE`].
    pub(super) fn little() -> Self {
        Self {
            steps: 5_000,
            telling: 5_000,
            stack: 256 * 1024,
            until: Some(Instant::now() + LITTLE),
            slice: 64,
            tell_fewer: false,
        }
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
mod bounds;
#[cfg(test)]
mod tests;
