//! Names that tenants choose: event types and channels.

use std::fmt;

use poem_openapi::registry::MetaSchema;
use serde_json::json;

use super::text::TextValue;

const MAX_LEN: usize = 200;
/// What a name has to be.
pub(super) const EXPECTED: &str = "expected 1 to 200 letters, digits and ._:/-";

/// Whether this can be the name of an event type or a channel.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_LEN).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte))
}

/// The name of an event type in a parameter.
#[derive(Debug)]
pub(crate) struct EventTypeName(pub(crate) String);

impl TextValue for EventTypeName {
    fn schema() -> MetaSchema {
        MetaSchema {
            pattern: Some(format!("^[A-Za-z0-9._:/-]{{1,{MAX_LEN}}}$")),
            example: Some(json!("order.created")),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(EXPECTED.to_owned())
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
