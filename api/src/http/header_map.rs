//! Headers that a tenant adds to what goes out: a JSON object of names and values, in the order given.

use std::{borrow::Cow, fmt};

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type},
};
use relaypost_shared::entities::Pairs;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Value, json};

use super::checks::Checks;

const MAX_HEADERS: usize = 20;
const MAX_NAME: usize = 100;
/// Values are short of the 998 characters that a line of a mail may have.
const MAX_VALUE: usize = 900;

/// Header names with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderMap(pub(crate) Pairs);

/// What stands for a value that the caller may not see.
const HIDDEN: &str = "[hidden]";
/// What stands for a value that this process cannot open.
const UNREADABLE: &str = "[unreadable]";

impl HeaderMap {
    /// The same names without their values, which may be credentials.
    pub(crate) fn hidden(self) -> Self {
        self.with_all(HIDDEN)
    }

    /// The same names without their values, which cannot be opened.
    pub(crate) fn unreadable(self) -> Self {
        self.with_all(UNREADABLE)
    }

    fn with_all(self, value: &str) -> Self {
        let names = self.0.0.into_iter();
        Self(Pairs(
            names.map(|(name, _)| (name, value.to_owned())).collect(),
        ))
    }

    /// Checks every header. `reserved` says which names, in lower case, are not for the tenant to set.
    pub(crate) fn check(&self, checks: &mut Checks, reserved: impl Fn(&str) -> bool) {
        let headers = &self.0.0;
        checks.require(headers.len() <= MAX_HEADERS, "headers", || {
            format!("expected at most {MAX_HEADERS} headers")
        });
        for (index, (name, value)) in headers.iter().enumerate() {
            let path = || format!("headers.{}", name.escape_default());
            let lower = name.to_ascii_lowercase();
            checks.require(is_token(name), path(), || {
                format!("expected a header name of up to {MAX_NAME} characters")
            });
            checks.require(!reserved(&lower), path(), || {
                "this header is set by Relaypost".to_owned()
            });
            checks.require(
                !headers[..index]
                    .iter()
                    .any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)),
                path(),
                || "this header is given twice".to_owned(),
            );
            checks.require(is_value(value), path(), || {
                format!(
                    "expected up to {MAX_VALUE} visible ASCII characters, without spaces at the ends"
                )
            });
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_value(value: &str) -> bool {
    value.len() <= MAX_VALUE
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && value.trim() == value
}

impl Serialize for HeaderMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for HeaderMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, String)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                    // Longer lists are refused in any case; this bounds the work on them.
                    if pairs.len() > MAX_HEADERS {
                        let message = format!("expected at most {MAX_HEADERS} headers");
                        return Err(A::Error::custom(message));
                    }
                }
                Ok(pairs)
            }
        }

        let pairs = deserializer.deserialize_map(InOrder)?;
        Ok(Self(Pairs(pairs)))
    }
}

impl Type for HeaderMap {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "headers".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            additional_properties: Some(Box::new(String::schema_ref())),
            max_properties: Some(MAX_HEADERS),
            example: Some(json!({"X-Source": "shop"})),
            ..MetaSchema::new("object")
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
impl ParseFromJSON for HeaderMap {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl ToJSON for HeaderMap {
    fn to_json(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }
}
