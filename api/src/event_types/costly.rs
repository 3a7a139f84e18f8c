//! `format: regex` and `multipleOf`, which cost the library more than the size of what they look at.
//!
//! Neither can be broken off once the library has begun, so each is paid for before it is called. The other formats that
//! the library knows read a text once, or refuse one that is longer than a name may be: looking at the text pays for them.

use jsonschema::{Keyword, ValidationError, Validator, paths::Location};
use serde_json::{Map, Number, Value, json};

use super::{
    counted::{Counted, Seen},
    work::spend,
};

/// The format and the keyword that are replaced by ones that are counted.
pub(super) const REGEX: &str = "regex";
pub(super) const MULTIPLE_OF: &str = "multipleOf";
/// Bytes of a regular expression, squared, that are looked at for one step: the library compares the name of each group
/// with the names of all groups before it. The costliest expression that a check can pay for has about 18,000 bytes.
const SQUARED_BYTES: u64 = 32;
/// Powers of two between two numbers, squared, that a division takes one step for: it is exact, with as many digits as
/// that takes.
const SQUARED_POWERS: u64 = 32;

/// Makes the check of `format: regex`.
///
/// # Errors
/// None in practice: the schema that it is built of is ours.
pub(super) fn regex() -> Result<impl Fn(&str) -> bool + Send + Sync, ValidationError<'static>> {
    let library = jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .build(&json!({"format": REGEX}))?;
    Ok(move |text: &str| {
        let len = text.len() as u64;
        spend(len.saturating_mul(len) / SQUARED_BYTES);
        library.is_valid(&Value::from(text))
    })
}

/// `multipleOf` of one schema.
struct MultipleOf {
    /// How many powers of two the number is away from 1.
    powers: u64,
    library: Validator,
}

/// Makes the keyword `multipleOf` of a schema.
pub(super) fn multiple_of<'a>(
    _: &'a Map<String, Value>,
    divisor: &'a Value,
    _: Location,
) -> Result<Box<dyn for<'i> Keyword<'i, Counted>>, ValidationError<'a>> {
    let library = jsonschema::options()
        .offline()
        .build(&json!({MULTIPLE_OF: divisor}))?;
    Ok(Box::new(MultipleOf {
        powers: divisor.as_number().map_or(0, powers),
        library,
    }))
}

impl MultipleOf {
    fn pay(&self, instance: Seen<'_>) {
        let powers = self.powers + instance.0.as_number().map_or(0, powers);
        spend(1 + powers * powers / SQUARED_POWERS);
    }
}

impl<'i> Keyword<'i, Counted> for MultipleOf {
    fn validate(&self, instance: Seen<'i>) -> Result<(), ValidationError<'i>> {
        self.pay(instance);
        self.library.validate(instance.0)
    }

    fn is_valid(&self, instance: Seen<'i>) -> bool {
        self.pay(instance);
        self.library.is_valid(instance.0)
    }
}

/// How many powers of two a number is away from 1: 3 for 10 and for 0.1, 1,023 for 1e308. None for zero, which the
/// library does not divide.
fn powers(number: &Number) -> u64 {
    const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const ONE: u64 = 1_023;
    match number.as_f64().unwrap_or_default().abs() {
        0.0 => 0,
        value => (value.to_bits() >> MANTISSA_BITS).abs_diff(ONE),
    }
}
