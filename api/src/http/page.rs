//! Lists: newest first, a page at a time.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseError, ParseFromParameter, ParseResult, Type},
};
use relaypost_shared::{
    db::{Bounds, Database, Slice},
    ids::{Id, Kind},
};
use sea_orm::{DbErr, EntityTrait, Select};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::text::{Text, TextValue};

/// The first byte of a cursor, so that its form can change without an old one being taken for a new one.
const CURSOR_VERSION: u8 = 1;
const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    /// The items, newest first.
    pub(crate) data: Vec<T>,
    /// Where the next page begins; null on the last one.
    pub(crate) next_cursor: Option<Text<Cursor>>,
}

/// Where a page begins: below the item with this UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor(Uuid);

/// How many items a page has at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(u32);

/// The `limit` and `cursor` of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging(Bounds);

impl Paging {
    pub(crate) fn new(limit: Option<Limit>, cursor: Option<Text<Cursor>>) -> Self {
        Self(Bounds {
            limit: limit.map_or(DEFAULT_LIMIT, |limit| limit.0),
            below: cursor.map(|cursor| cursor.0.0),
        })
    }

    /// The rows that the page shows, as the store asks for them.
    pub(crate) fn bounds(self) -> Bounds {
        self.0
    }

    /// Loads a page of `select`, whose rows `id` orders.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn load<E: EntityTrait, K: Kind>(
        self,
        db: &Database,
        select: Select<E>,
        id: E::Column,
        id_of: impl Fn(&E::Model) -> Id<K>,
    ) -> Result<Page<E::Model>, DbErr> {
        let rows = self.0.load(db, select, id, |row| id_of(row).uuid());
        rows.await.map(Page::from)
    }
}

impl<T> From<Slice<T>> for Page<T> {
    fn from(slice: Slice<T>) -> Self {
        Self {
            data: slice.rows,
            next_cursor: slice.next.map(|below| Text(Cursor(below))),
        }
    }
}

impl<T> Page<T> {
    /// The same page with every item shown in another way.
    pub(crate) fn map<U>(self, show: impl FnMut(T) -> U) -> Page<U> {
        Page {
            data: self.data.into_iter().map(show).collect(),
            next_cursor: self.next_cursor,
        }
    }
}

impl TextValue for Cursor {
    fn schema() -> MetaSchema {
        MetaSchema {
            // Base64 of 17 bytes, the first of them `CURSOR_VERSION`: every text that fits is a cursor.
            pattern: Some("^A[Q-Za-f][A-Za-z0-9_-]{20}[AEIMQUYcgkosw048]$".to_owned()),
            example: Some(json!("AQGTx7iuPx8neUcJXGsAsFg")),
            ..MetaSchema::new("string")
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let uuid = bytes.as_deref().and_then(|bytes| match bytes {
            [CURSOR_VERSION, uuid @ ..] => Uuid::from_slice(uuid).ok(),
            _ => None,
        });
        uuid.map(Self)
            .ok_or_else(|| "expected a `next_cursor`".to_owned())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![CURSOR_VERSION];
        bytes.extend_from_slice(self.0.as_bytes());
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl Type for Limit {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "limit".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            minimum: Some(1.0),
            maximum: Some(f64::from(MAX_LIMIT)),
            default: Some(json!(DEFAULT_LIMIT)),
            ..MetaSchema::new_with_format("integer", "int32")
        }))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromParameter for Limit {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        match text.parse() {
            Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(Self(limit)),
            _ => Err(ParseError::custom(format!(
                "expected a whole number from 1 to {MAX_LIMIT}"
            ))),
        }
    }
}

impl<T: Type> Type for Page<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Reference(Self::name().into_owned())
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
        let item = registry.schemas.get(T::name().as_ref());
        let item = item.and_then(|schema| schema.example.clone());
        registry.create_schema::<Self, _>(Self::name().into_owned(), |_| MetaSchema {
            description: Some("One page of a list, newest first."),
            required: vec!["data", "next_cursor"],
            properties: vec![
                ("data", Vec::<T>::schema_ref()),
                (
                    "next_cursor",
                    Text::<Cursor>::schema_ref().merge(MetaSchema {
                        description: Some(
                            "The `cursor` of the next page; null when this is the last one.",
                        ),
                        nullable: true,
                        ..MetaSchema::ANY
                    }),
                ),
            ],
            example: item.map(|item| json!({"data": [item], "next_cursor": null})),
            ..MetaSchema::new("object")
        });
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_as_it_was_written(bits in any::<u128>()) {
            let cursor = Cursor(Uuid::from_u128(bits));
            let read: Result<Cursor, String> = Cursor::read(&Text(cursor).to_string());
            prop_assert_eq!(read, Ok(cursor));
        }

        /// One place in a list has one cursor, and no text makes the reader panic.
        #[test]
        fn text_that_is_read_as_a_cursor_is_what_it_writes(
            text in prop_oneof![any::<String>(), "[A-Za-z0-9_-]{23}", "AQ[A-Za-z0-9_-]{21}[=]{0,2}"],
        ) {
            if let Ok(cursor) = Cursor::read(&text) {
                prop_assert_eq!(Text(cursor).to_string(), text);
            }
        }
    }
}
