//! JSON as the validator reads it when a check is counted: every look at the payload is paid for before it is answered.
//!
//! A look costs one step, and more where one look lets the validator do work that grows with what it sees: the length of
//! a text, the names of an object, the size of two values that are compared, the items that have to be unique.

use std::{borrow::Cow, collections::HashSet, slice};

use jsonschema::{
    JsonType,
    json::{Array, Json, JsonNumber, Node, NodeIdentity, Object, cmp},
};
use serde_json::{Map, Number, Value, map};

use super::work::{spend, spend_on_name};

/// Bytes of a text that are compared for one step, and that are read for one step: a `format` looks at each character.
const TEXT: usize = 16;
const READ: usize = 4;
/// Steps for remembering an item that has to be unique.
const UNIQUE: u64 = 8;

/// The representation, for [`jsonschema::options_for`].
pub(super) struct Counted;

/// One value of the payload.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a>(pub(super) &'a Value);

/// The members of an object of the payload.
#[derive(Clone, Copy)]
pub(super) struct Members<'a>(&'a Map<String, Value>);

/// The items of an array of the payload.
#[derive(Clone, Copy)]
pub(super) struct Items<'a>(&'a [Value]);

/// A number of the payload.
#[derive(Clone, Copy)]
pub(super) struct Counting<'a>(&'a Number);

impl Json for Counted {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    // As for serde_json's values: a lookup in the ordered map costs about two names.
    const KEYS_PER_LOOKUP: usize = 2;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(
        buffer: &mut Value,
        string: &str,
        f: impl FnOnce(Self::Node<'_>) -> T,
    ) -> T {
        spend((string.len() / READ) as u64);
        *buffer = Value::String(string.to_owned());
        f(Seen(buffer))
    }
}

impl<'a> Node<'a, Counted> for Seen<'a> {
    type Object = Members<'a>;
    type Array = Items<'a>;
    type Number = Counting<'a>;

    fn as_object(&self) -> Option<Members<'a>> {
        spend(1);
        self.0.as_object().map(Members)
    }

    fn as_array(&self) -> Option<Items<'a>> {
        spend(1);
        self.0.as_array().map(|items| Items(items))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        spend(1);
        let text = self.0.as_str()?;
        spend((text.len() / READ) as u64);
        Some(Cow::Borrowed(text))
    }

    fn as_number(&self) -> Option<Counting<'a>> {
        spend(1);
        match self.0 {
            Value::Number(number) => Some(Counting(number)),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        spend(1);
        self.0.as_bool()
    }

    fn is_null(&self) -> bool {
        spend(1);
        self.0.is_null()
    }

    fn is_number(&self) -> bool {
        spend(1);
        self.0.is_number()
    }

    fn is_string(&self) -> bool {
        spend(1);
        self.0.is_string()
    }

    fn json_type(&self) -> JsonType {
        spend(1);
        match self.0 {
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        spend(1);
        spend_on_equality(self.0, expected);
        cmp::equal(self.0, expected)
    }

    fn to_value(&self) -> Cow<'a, Value> {
        spend(1);
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        spend(1);
        Some(NodeIdentity::new(std::ptr::from_ref(self.0) as usize))
    }
}

impl<'a> Object<'a, Counted> for Members<'a> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = MembersIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        spend(1);
        spend_on_text(key);
        self.0.get(key).map(Seen)
    }

    fn members(&self) -> MembersIter<'a> {
        MembersIter(self.0.iter())
    }
}

/// The members one after the other.
pub(super) struct MembersIter<'a>(map::Iter<'a>);

impl<'a> Iterator for MembersIter<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.0.next()?;
        spend_on_name(name.len());
        Some((name, Seen(value)))
    }
}

impl<'a> Array<'a, Counted> for Items<'a> {
    type Node = Seen<'a>;
    type ElementsIter = ItemsIter<'a>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> ItemsIter<'a> {
        ItemsIter(self.0.iter())
    }

    /// The library's own way hashes so that a payload can make all items collide, and then compares each with each.
    fn is_unique(&self) -> bool {
        let mut seen = HashSet::with_capacity(self.0.len());
        self.0.iter().all(|item| {
            spend(UNIQUE);
            let mut key = Vec::new();
            canonical(item, &mut key);
            seen.insert(key)
        })
    }
}

/// The items one after the other.
pub(super) struct ItemsIter<'a>(slice::Iter<'a, Value>);

impl<'a> Iterator for ItemsIter<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        spend(1);
        self.0.next().map(Seen)
    }
}

impl JsonNumber for Counting<'_> {
    fn as_u64(&self) -> Option<u64> {
        self.0.as_u64()
    }

    fn as_i64(&self) -> Option<i64> {
        self.0.as_i64()
    }

    fn as_f64(&self) -> Option<f64> {
        self.0.as_f64()
    }

    fn as_str(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.to_string())
    }

    fn to_number(&self) -> Cow<'_, Number> {
        Cow::Borrowed(self.0)
    }
}

fn spend_on_text(text: &str) {
    spend((text.len() / TEXT) as u64);
}

/// Pays for a comparison, by the parts of both values that it can get to.
fn spend_on_equality(seen: &Value, expected: &Value) {
    match (seen, expected) {
        (Value::String(seen), Value::String(expected)) if seen.len() == expected.len() => {
            spend_on_text(seen);
        }
        (Value::Array(seen), Value::Array(expected)) if seen.len() == expected.len() => {
            spend(seen.len() as u64);
            for (seen, expected) in seen.iter().zip(expected) {
                spend_on_equality(seen, expected);
            }
        }
        (Value::Object(seen), Value::Object(expected)) if seen.len() == expected.len() => {
            for (name, seen) in seen {
                spend(1);
                spend_on_text(name);
                if let Some(expected) = expected.get(name) {
                    spend_on_equality(seen, expected);
                }
            }
        }
        _ => {}
    }
}

/// Writes a value so that two values have the same bytes exactly when JSON Schema calls them equal.
fn canonical(value: &Value, to: &mut Vec<u8>) {
    spend(1);
    match value {
        Value::Null => to.push(b'n'),
        Value::Bool(value) => to.push(if *value { b't' } else { b'f' }),
        Value::Number(number) => canonical_number(number, to),
        Value::String(text) => canonical_text(text, to),
        Value::Array(items) => {
            to.push(b'[');
            items.iter().for_each(|item| canonical(item, to));
            to.push(b']');
        }
        Value::Object(members) => {
            // serde_json keeps the members ordered by name.
            to.push(b'{');
            for (name, value) in members {
                canonical_text(name, to);
                canonical(value, to);
            }
            to.push(b'}');
        }
    }
}

fn canonical_text(text: &str, to: &mut Vec<u8>) {
    spend_on_text(text);
    to.push(b'"');
    to.extend_from_slice(&(text.len() as u64).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// `1` and `1.0` are one number.
fn canonical_number(number: &Number, to: &mut Vec<u8>) {
    let integer = number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from));
    let float = number.as_f64().unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
    let whole =
        integer.or_else(|| (float.fract() == 0.0 && float.abs() < 1e30).then_some(float as i128));
    match whole {
        Some(integer) => {
            to.push(b'i');
            to.extend_from_slice(&integer.to_le_bytes());
        }
        None => {
            to.push(b'd');
            to.extend_from_slice(&float.to_bits().to_le_bytes());
        }
    }
}
