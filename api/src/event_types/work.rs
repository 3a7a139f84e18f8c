//! A bound on what checking one payload may cost.
//!
//! A tenant writes the schema and the payload, and the work is up to the product of the two; schemas that branch into
//! themselves make it more. The validator has no bound of its own, so that every schema within a schema gets a keyword
//! more, which counts the visit and, when too much has been counted, breaks off by unwinding: unlike a failed keyword,
//! that cannot be turned around by a `not` or outvoted by an `anyOf`.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use jsonschema::{Keyword, ValidationError, paths::Location};
use serde_json::{Map, Value};

/// The keyword that counts. The validator may ask it behind the others of its schema: one visit can cost more than was
/// left, the next one is not made.
pub(super) const KEYWORD: &str = "relaypost:work";
/// Bytes of a text that a pattern is matched against for the price of one comparison.
const TEXT: u64 = 32;

/// More work than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Does the work of a validator of which every schema was [`count`]ed, as long as it costs at most `budget`. One unit is
/// about one comparison.
///
/// # Errors
/// [`TooMuch`] when it costs more.
pub(super) fn within<T>(budget: u64, work: impl FnOnce() -> T) -> Result<T, TooMuch> {
    LEFT.set(budget);
    // The validator keeps nothing of a run that was broken off: its state lives in the run.
    let done = catch_unwind(AssertUnwindSafe(work));
    LEFT.set(u64::MAX);
    done.map_err(|cause| {
        if !cause.is::<TooMuch>() {
            resume_unwind(cause);
        }
        TooMuch
    })
}

fn spend(units: u64) {
    match LEFT.get().checked_sub(units) {
        Some(left) => LEFT.set(left),
        // Without the panic hook: nothing is wrong, and nothing is to be logged.
        None => resume_unwind(Box::new(TooMuch)),
    }
}

/// What a visit of one schema costs.
struct Visit {
    always: u64,
    /// For each member of an object or item of a list.
    each: u64,
    /// For each piece of a text.
    text: u64,
}

impl Visit {
    fn of(schema: &Map<String, Value>) -> Self {
        let entries = |keyword: &str| match schema.get(keyword) {
            Some(Value::Array(items)) => items.len() as u64,
            Some(Value::Object(fields)) => fields.len() as u64,
            _ => 0,
        };
        let pattern = schema.get("pattern").and_then(Value::as_str);
        Self {
            always: 1 + entries("enum") + entries("required") + entries("properties"),
            each: 1 + 8 * entries("patternProperties"),
            text: pattern.map_or(0, |pattern| pattern.len() as u64),
        }
    }

    fn spend(&self, instance: &Value) {
        let more = match instance {
            Value::Object(fields) => self.each * fields.len() as u64,
            Value::Array(items) => self.each * items.len() as u64,
            Value::String(text) => self.text * (1 + text.len() as u64 / TEXT),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        };
        spend(self.always + more);
    }
}

impl<'i> Keyword<'i> for Visit {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        self.spend(instance);
        Ok(())
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        self.spend(instance);
        true
    }
}

/// Makes the keyword of a schema.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the validator asks for this signature"
)]
pub(super) fn keyword<'a>(
    schema: &'a Map<String, Value>,
    _: &'a Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(Visit::of(schema)))
}

/// Gives the keyword to a schema and to every schema in it.
pub(super) fn count(schema: &mut Value) {
    let Value::Object(keywords) = schema else {
        return;
    };
    for (keyword, value) in keywords.iter_mut() {
        match (keyword.as_str(), value) {
            (
                "additionalItems"
                | "additionalProperties"
                | "contains"
                | "contentSchema"
                | "else"
                | "if"
                | "items"
                | "not"
                | "propertyNames"
                | "then"
                | "unevaluatedItems"
                | "unevaluatedProperties",
                schema @ Value::Object(_),
            ) => count(schema),
            ("allOf" | "anyOf" | "items" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                schemas.iter_mut().for_each(count)
            }
            (
                "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties"
                | "properties",
                Value::Object(schemas),
            ) => schemas.values_mut().for_each(count),
            _ => {}
        }
    }
    keywords.insert(KEYWORD.to_owned(), Value::Bool(true));
}
