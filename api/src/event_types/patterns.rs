//! Regular expressions in a schema, and what matching one costs.
//!
//! They are matched in linear time, but one byte of the text can cost as much as the expression has positions, and a
//! match cannot be broken off. So a match is paid for before it is made.

use jsonschema::{Keyword, PatternOptions, Regex, ValidationError, Validator, paths::Location};
use serde_json::{Map, Value, json};

use super::{
    counted::{Counted, Seen},
    work::spend,
};

/// The keyword that is replaced by one that is counted.
pub(super) const KEYWORD: &str = "pattern";
/// How large a compiled expression is, and the tables that are built while it is matched.
pub(super) const BYTES: usize = 128 * 1024;
pub(super) const CACHE_BYTES: usize = 1024 * 1024;
/// Positions of an expression times bytes of a text that are looked at for one step.
const WORK: u64 = 8;

/// The expressions in a schema.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patterns {
    /// How many there are.
    pub(super) number: usize,
    /// At most how many positions those are in at once that are matched against names.
    pub(super) of_names: u64,
}

impl Patterns {
    /// Those in a schema, and in whatever looks like one.
    pub(super) fn of(schema: &Value) -> Self {
        let mut all = Self::default();
        all.collect(schema);
        all
    }

    fn collect(&mut self, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        (KEYWORD, Value::String(_)) => self.number += 1,
                        ("patternProperties", Value::Object(by_pattern)) => {
                            self.number += by_pattern.len();
                            let positions = by_pattern.keys().map(|pattern| at_once(pattern));
                            self.of_names = positions.fold(self.of_names, u64::saturating_add);
                        }
                        _ => {}
                    }
                    self.collect(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// How expressions are compiled.
pub(super) fn options() -> PatternOptions<Regex> {
    PatternOptions::regex()
        .size_limit(BYTES)
        .dfa_size_limit(CACHE_BYTES)
}

/// `pattern` of one schema.
struct Pattern {
    pattern: String,
    at_once: u64,
    matcher: Validator,
}

/// Makes the keyword `pattern` of a schema.
pub(super) fn keyword<'a>(
    _: &'a Map<String, Value>,
    pattern: &'a Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i, Counted>>, ValidationError<'a>> {
    let matcher = jsonschema::options()
        .offline()
        .with_pattern_options(options())
        .build(&json!({KEYWORD: pattern}))?;
    let pattern = pattern.as_str().unwrap_or_default().to_owned();
    Ok(Box::new(Pattern {
        at_once: at_once(&pattern),
        pattern,
        matcher,
    }))
}

impl<'i> Keyword<'i, Counted> for Pattern {
    fn validate(&self, instance: Seen<'i>) -> Result<(), ValidationError<'i>> {
        if Keyword::<Counted>::is_valid(self, instance) {
            return Ok(());
        }
        let Self { pattern, .. } = self;
        Err(ValidationError::custom(format!(
            "does not match {pattern:?}"
        )))
    }

    fn is_valid(&self, instance: Seen<'i>) -> bool {
        let Value::String(text) = instance.0 else {
            return true;
        };
        spend(1 + self.at_once.saturating_mul(text.len() as u64) / WORK);
        self.matcher.is_valid(instance.0)
    }
}

/// At most how many positions of the expression a match can be in at once. It may be too many: an expression that is
/// read wrongly is not taken for a smaller one.
fn at_once(pattern: &str) -> u64 {
    match counts_one(pattern) {
        true => 1,
        false => positions(pattern),
    }
}

/// Whether the expression is one character or class that is counted, and a match is in one position of it at a time:
/// `^[a-z]{2,100}$` knows how many it has seen, and `[a-z]{1,100}` is content with the first one.
fn counts_one(pattern: &str) -> bool {
    let from_start = pattern.strip_prefix('^');
    let rest = from_start.unwrap_or(pattern);
    let (rest, to_end) = match rest.strip_suffix('$') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let mut rest = rest.chars();
    match rest.next() {
        Some('[') => skip_class(&mut rest),
        Some('\\') if rest.next().is_some_and(|class| "dDsSwW".contains(class)) => {}
        Some(character) if character == '.' || character.is_alphanumeric() => {}
        _ => return false,
    }
    let bounds = rest.as_str().strip_prefix('{');
    let Some(bounds) = bounds.and_then(|bounds| bounds.strip_suffix('}')) else {
        return false;
    };
    let least = bounds.split(',').next().unwrap_or_default();
    let first_will_do = !to_end && matches!(least, "0" | "1");
    let is_bound = |next: char| next.is_ascii_digit() || next == ',';
    bounds.chars().all(is_bound) && (from_start.is_some() || first_will_do)
}

/// The characters and classes of an expression, as often as they are repeated.
fn positions(pattern: &str) -> u64 {
    let mut open: Vec<u64> = Vec::new();
    let (mut sum, mut last): (u64, u64) = (0, 0);
    let mut rest = pattern.chars();
    while let Some(next) = rest.next() {
        let atom = match next {
            '\\' => {
                rest.next();
                1
            }
            '[' => {
                skip_class(&mut rest);
                1
            }
            '(' => {
                open.push(sum + last);
                (sum, last) = (0, 0);
                continue;
            }
            ')' => {
                let group = sum.saturating_add(last).max(1);
                sum = open.pop().unwrap_or_default();
                last = 0;
                group
            }
            '{' => match repeats(rest.as_str()) {
                Some(times) => {
                    last = last.max(1).saturating_mul(times.max(1));
                    continue;
                }
                None => 1,
            },
            _ => 1,
        };
        sum = sum.saturating_add(last);
        last = atom;
    }
    let unclosed = open.into_iter().fold(0, u64::saturating_add);
    unclosed.saturating_add(sum).saturating_add(last).max(1)
}

fn skip_class(rest: &mut std::str::Chars<'_>) {
    while let Some(next) = rest.next() {
        match next {
            '\\' => {
                rest.next();
            }
            ']' => return,
            _ => {}
        }
    }
}

/// The larger number of `{n,m}`, of which the brace is behind us; nothing when it is no repetition.
fn repeats(rest: &str) -> Option<u64> {
    let (inside, _) = rest.split_once('}')?;
    let mut bounds = inside.split(',');
    let least: u64 = bounds.next()?.trim().parse().ok()?;
    let most = bounds.next().and_then(|most| most.trim().parse().ok());
    Some(least.max(most.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_that_is_counted_costs_one_position_and_all_else_each() {
        for pattern in [
            r"[\x20-\x7e]{1,1000}",
            r"^[^\]]{2,1000}$",
            r"^\d{1000}",
            "^.{0,1000}$",
        ] {
            assert_eq!(at_once(pattern), 1, "{pattern}");
        }
        for pattern in [
            // It may begin at each character.
            "[a-z]{2,1000}",
            "[a-z]{1,1000}$",
            // More than one class.
            "^[a]{1,1000}b{1,1000}$",
            "^(a|b){1,1000}$",
            "^[]{1,9}x]{1000}$",
        ] {
            assert!(at_once(pattern) >= 1_000, "{pattern}");
        }
    }
}
