//! Values that travel as text: ids, times, the words of the delivery vocabulary. One newtype makes any of them a type
//! of the document, of bodies and of parameters.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat, SubsecRound as _, Utc};
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type},
};
use relaypost_shared::{
    clock::Timestamp,
    delivery::{
        AttemptOutcome, CircuitState, DeliveryKind, EmailOnUncertain, EndpointStatus, ErrorClass,
        Ordering, ParkedReason, Reason, ReplayKind, ReplayStatus, Signing, Status,
    },
    ids::{Id, Kind},
    people::Role,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Value, json};
use uuid::Uuid;

/// A value with one form as text.
pub(crate) trait TextValue: Sized + Send + Sync + 'static {
    /// Its name among the schemas of the document, or none when its schema is written out wherever it is used.
    const SCHEMA_NAME: Option<&'static str> = None;

    /// Its schema.
    fn schema() -> MetaSchema;

    /// Reads it.
    ///
    /// # Errors
    /// What was expected, in words.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes it.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// A [`TextValue`] in a body or a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Text<T>(pub(crate) T);

/// An id in a body or a parameter: `Ref<Endpoint>`.
pub(crate) type Ref<K> = Text<Id<K>>;

/// A time: RFC 3339, UTC, milliseconds.
pub(crate) type Moment = Text<Timestamp>;

/// The id of the examples in the document: fixed, because the document has to be the same every time.
pub(crate) const fn example_id<K: Kind>() -> Id<K> {
    Id::from_uuid(Uuid::from_u128(0x019b_d3b4_6a40_7c3a_9d2e_5f81_0b64_c7e2))
}

/// The time of the examples in the document: 2026-01-31T09:30:00Z.
pub(crate) fn example_time() -> Timestamp {
    DateTime::from_timestamp_millis(1_769_851_800_000).unwrap_or_default()
}

impl<T> From<T> for Text<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<K: Kind> TextValue for Id<K> {
    fn schema() -> MetaSchema {
        MetaSchema {
            pattern: Some(format!("^{}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$", K::PREFIX)),
            example: Some(json!(example_id::<K>().to_string())),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        Self::from_str(text).map_err(|error| error.to_string())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TextValue for Timestamp {
    fn schema() -> MetaSchema {
        MetaSchema {
            example: Some(json!(Text(example_time()).to_string())),
            ..MetaSchema::new_with_format("string", "date-time")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let read = DateTime::parse_from_rfc3339(text);
        read.map(|time| time.with_timezone(&Utc).trunc_subsecs(3))
            .map_err(|_| "expected a time like 2026-01-31T09:30:00Z (RFC 3339)".to_owned())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// The shared vocabulary, with the name that each list of words has in the document.
macro_rules! words {
    ($($word:ident $name:literal)*) => {$(
        impl TextValue for $word {
            const SCHEMA_NAME: Option<&'static str> = Some($name);

            fn schema() -> MetaSchema {
                MetaSchema {
                    enum_items: Self::ALL.iter().map(|word| json!(word.as_str())).collect(),
                    ..MetaSchema::new("string")
                }
            }

            fn read(text: &str) -> Result<Self, String> {
                text.parse()
            }

            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

words! {
    DeliveryKind "DeliveryKind"
    Status "DeliveryStatus"
    Reason "DeadReason"
    ParkedReason "ParkedReason"
    ErrorClass "ErrorClass"
    AttemptOutcome "AttemptOutcome"
    EmailOnUncertain "EmailOnUncertain"
    EndpointStatus "EndpointStatus"
    CircuitState "CircuitState"
    Ordering "EndpointOrdering"
    Signing "EndpointSigning"
    ReplayKind "ReplayKind"
    ReplayStatus "ReplayStatus"
    Role "Role"
}

impl<T: TextValue> fmt::Display for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

impl<T: TextValue> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: TextValue> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<T: TextValue> Type for Text<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        T::SCHEMA_NAME.unwrap_or("text").into()
    }

    fn schema_ref() -> MetaSchemaRef {
        match T::SCHEMA_NAME {
            Some(name) => MetaSchemaRef::Reference(name.to_owned()),
            None => MetaSchemaRef::Inline(Box::new(T::schema())),
        }
    }

    fn register(registry: &mut Registry) {
        if let Some(name) = T::SCHEMA_NAME {
            registry.create_schema::<Self, _>(name.to_owned(), |_| T::schema());
        }
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: TextValue> ParseFromParameter for Text<T> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        T::read(text).map(Self).map_err(ParseError::custom)
    }
}

// Bodies are read and written by serde; the derived `Object` of a struct asks for these two all the same.
impl<T: TextValue> ParseFromJSON for Text<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl<T: TextValue> ToJSON for Text<T> {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        let shown = |text| Moment::parse_from_parameter(text).unwrap().to_string();
        assert_eq!(shown("2026-01-31T09:30:00Z"), "2026-01-31T09:30:00.000Z");
        assert_eq!(
            shown("2026-01-31T11:30:00.123456+02:00"),
            "2026-01-31T09:30:00.123Z"
        );
        assert!(Moment::parse_from_parameter("2026-01-31").is_err());
    }
}
