//! JSON that is kept byte for byte.

use std::borrow::Cow;

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::{Deserialize, Serialize};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

/// Any JSON value, as the very text that it came as: spacing, escapes, big numbers, the order of keys and repeated
/// keys survive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RawJson(Box<RawValue>);

impl RawJson {
    /// The text.
    pub(crate) fn get(&self) -> &str {
        self.0.get()
    }

    /// This value, in the compact form.
    pub(crate) fn from_value(value: &Value) -> Self {
        // `to_raw_value` fails only for what is no JSON value.
        Self(to_raw_value(value).unwrap_or_default())
    }

    /// The value with this text, or nothing when it is not JSON.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(bytes).ok()?;
        RawValue::from_string(text).ok().map(Self)
    }
}

impl Type for RawJson {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "any_json".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            description: Some("Any JSON value."),
            example: Some(json!({"id": 42, "total": "12.50"})),
            ..MetaSchema::ANY
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

// Bodies are read and written by serde; the derived `Object` of a struct asks for these two all the same.
impl ParseFromJSON for RawJson {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl ToJSON for RawJson {
    fn to_json(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::http::strict_json::parse;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope {
        payload: RawJson,
    }

    #[test]
    fn every_value_keeps_its_bytes() {
        for text in [
            "{ \"z\" : 1,\r\n\t\"a\":\"\\u00e9 \\/ é 😀 \\ud800\" ,\"a\": 123456789012345678901234567890.10e+2 }",
            "[ ]",
            "null",
            "true",
            "-0.0",
            "\"\\u0000\"",
            "1E400",
        ] {
            let body = format!("{{\"payload\":  {text}\n}}");
            let envelope: Envelope = parse(body.as_bytes()).unwrap();
            assert_eq!(envelope.payload.get(), text);
            assert_eq!(serde_json::to_string(&envelope.payload).unwrap(), text);
        }
    }
}
