//! Checks of a body's fields that collect everything that is wrong before they refuse it.

use std::ops::RangeInclusive;

use chrono::TimeDelta;
use relaypost_shared::clock::Timestamp;
use serde_json::Value;

use super::{
    names::{EXPECTED, is_name},
    problem::{ApiError, FieldError},
    text::Moment,
};

/// How far ahead something can be put off: what is later is a mistake, such as milliseconds taken for seconds.
const MAX_AHEAD: TimeDelta = TimeDelta::days(365);

/// The faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<FieldError>);

impl Checks {
    /// Notes a fault unless `ok`.
    pub(crate) fn require(
        &mut self,
        ok: bool,
        path: impl Into<String>,
        message: impl FnOnce() -> String,
    ) {
        if !ok {
            self.0.push(FieldError {
                path: path.into(),
                message: message(),
            });
        }
    }

    /// Notes what is wrong with one field, if anything is.
    pub(crate) fn result<T>(
        &mut self,
        path: impl Into<String>,
        result: Result<T, impl Into<String>>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(message) => {
                self.require(false, path, || message.into());
                None
            }
        }
    }

    /// One line of text: so many characters, no control characters.
    pub(crate) fn line(&mut self, path: &str, text: &str, chars: RangeInclusive<usize>) {
        let count = text.chars().count();
        self.require(chars.contains(&count), path, || {
            format!(
                "expected {} to {} characters, got {count}",
                chars.start(),
                chars.end()
            )
        });
        self.require(!text.chars().any(char::is_control), path, || {
            "control characters and line ends are not allowed".to_owned()
        });
    }

    /// Text of any length. PostgreSQL cannot keep the character U+0000.
    pub(crate) fn text(&mut self, path: &str, text: &str) {
        self.require(!text.contains('\0'), path, || NUL.to_owned());
    }

    /// The time that something is put off to.
    pub(crate) fn due(&mut self, path: &str, due: Option<Moment>, now: Timestamp) {
        let fits = due.is_none_or(|due| due.0 - now <= MAX_AHEAD);
        self.require(fits, path, || {
            format!("expected at most {} days ahead", MAX_AHEAD.num_days())
        });
    }

    /// The time from which on something is too late to deliver.
    pub(crate) fn expiry(
        &mut self,
        path: &str,
        expires: Option<Moment>,
        due: Option<Moment>,
        now: Timestamp,
    ) {
        let Some(expires) = expires else { return };
        self.require(expires.0 > now, path, || {
            "expected a time that is still to come".to_owned()
        });
        let after = due.is_none_or(|due| expires.0 > due.0);
        self.require(after, path, || {
            "expected a time after deliver_at".to_owned()
        });
    }

    /// Any JSON, in which no text may have the character U+0000.
    pub(crate) fn json(&mut self, path: &str, value: &Value) {
        self.require(!has_nul(value), path, || NUL.to_owned());
    }

    /// Names made of letters, digits and `._:/-`: event types, channels.
    pub(crate) fn names(&mut self, path: &str, names: &[String], max: usize) {
        self.require(names.len() <= max, path, || {
            format!("expected at most {max} entries")
        });
        for (index, name) in names.iter().enumerate() {
            self.name(&format!("{path}[{index}]"), name);
        }
    }

    /// One name made of letters, digits and `._:/-`.
    pub(crate) fn name(&mut self, path: &str, name: &str) {
        self.require(is_name(name), path, || EXPECTED.to_owned());
    }

    /// Refuses the body if anything was wrong.
    ///
    /// # Errors
    /// 422 with every fault.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(self.0))
        }
    }
}

const NUL: &str = "the character U+0000 is not allowed";
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
