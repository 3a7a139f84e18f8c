//! How far a schema unfolds, known before anything is checked or compiled.
//!
//! `allOf`, `anyOf`, `oneOf`, `not`, `if`, `dependentSchemas` and references apply further schemas to the same value. A
//! schema of 3 kB can come to 2^40 of them that way, and the library unfolds some of them already when it compiles. So
//! they are counted here first, with the resolver that the library itself uses: what it reaches is what is found.
//!
//! The walk also knows which objects of the document are schemas, wherever a reference finds them. Each gets a `type`
//! that every value has, unless it has one: the library asks for that before every other keyword, so that no visit of a
//! schema, not even of `{}`, is made without a look at the payload, which is paid for.

use std::collections::{HashMap, HashSet};

use referencing::{Draft, List, Resolver, ResourceRef, SPECIFICATIONS, Uri, uri};
use serde_json::{Map, Value, json};

use super::schema::Refusal;

/// How many schemas may apply to one value, all alternatives together.
const MAX_UNFOLDED: u64 = 20_000;
/// How deep they may be within each other.
const MAX_DEPTH: u32 = 100;
/// How many schemas, with their properties, the library may unfold for all `unevaluatedProperties` and
/// `unevaluatedItems` together; it keeps them in memory.
const MAX_UNROLLED: u64 = 10_000;
/// How many schemas are visited, each as often as embedded resources lead to it on different ways.
const MAX_VISITS: usize = 20_000;
/// The base of a schema that names none, as the library has it.
const BASE: &str = "json-schema:///";

/// The schema objects of a document, by their address.
#[derive(Debug)]
pub(super) struct Unfolded {
    found: HashMap<usize, Found>,
    unrolled: u64,
}

/// A schema object that was found.
#[derive(Debug, Default)]
struct Found {
    /// The schemas that it applies to the same value.
    in_place: Vec<usize>,
    /// How many properties it names.
    names: u64,
    /// Older drafts ignore what stands next to a `$ref`.
    only_ref: bool,
    unevaluated: bool,
}

/// What a schema comes to.
#[derive(Clone, Copy)]
struct Size {
    schemas: u64,
    depth: u32,
    unrolled: u64,
}

impl Unfolded {
    /// Finds every schema object of a document.
    ///
    /// # Errors
    /// When it unfolds too far, when a check of it would not end, and when a reference leads nowhere.
    pub(super) fn of(schema: &Value) -> Result<Self, Refusal> {
        let draft = Draft::default().detect(schema);
        let resource = ResourceRef::new(schema, draft);
        let outside = |error: referencing::Error| Refusal::invalid(error.to_string());
        let base = uri::from_str(resource.id().unwrap_or(BASE)).map_err(outside)?;
        // With the metaschemas of all drafts, which a schema may refer to.
        let registry = SPECIFICATIONS
            .add(base.as_str(), resource)
            .and_then(|registry| registry.draft(draft).prepare())
            .map_err(outside)?;
        let mut walk = Walk::default();
        walk.visit(schema, &registry.resolver(base), draft)?;
        let unrolled = Sizes::check(&walk.found)?;
        Ok(Self {
            found: walk.found,
            unrolled,
        })
    }

    /// How many schemas and properties the library keeps for `unevaluatedProperties` and `unevaluatedItems`.
    pub(super) fn unrolled(&self) -> usize {
        usize::try_from(self.unrolled).unwrap_or(usize::MAX)
    }

    /// The same schema, in which every visit of a schema object begins with a look at the value.
    ///
    /// # Errors
    /// When a reference leads into a value of `const` or `enum`.
    pub(super) fn counted(&self, schema: &Value) -> Result<Value, Refusal> {
        match schema {
            Value::Object(fields) => self.counted_object(schema, fields).map(Value::Object),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.counted(item));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Ok(schema.clone())
            }
        }
    }

    fn counted_object(
        &self,
        schema: &Value,
        fields: &Map<String, Value>,
    ) -> Result<Map<String, Value>, Refusal> {
        let found = self.found.get(&address(schema));
        let mut counted = Map::new();
        for (keyword, value) in fields {
            let value = match (keyword.as_str(), value) {
                ("const" | "enum", value) if found.is_some() => {
                    if self.has_schema(value) {
                        let message = "a reference leads to a value, expected a schema";
                        return Err(Refusal::invalid(message.to_owned()));
                    }
                    value.clone()
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) if found.is_some() => {
                    let schemas = schemas.iter().map(|schema| match schema {
                        // A look for these too.
                        Value::Bool(true) => Ok(any_value()),
                        Value::Bool(false) => Ok(json!({"not": any_value()})),
                        schema => self.counted(schema),
                    });
                    schemas.collect::<Result<_, _>>().map(Value::Array)?
                }
                (_, value) => self.counted(value)?,
            };
            counted.insert(keyword.clone(), value);
        }
        if found.is_some_and(|found| !found.only_ref) {
            counted.entry("type").or_insert_with(all_types);
        }
        Ok(counted)
    }

    fn has_schema(&self, value: &Value) -> bool {
        self.found.contains_key(&address(value))
            || match value {
                Value::Object(fields) => fields.values().any(|value| self.has_schema(value)),
                Value::Array(items) => items.iter().any(|value| self.has_schema(value)),
                _ => false,
            }
    }
}

fn all_types() -> Value {
    json!([
        "array", "boolean", "integer", "null", "number", "object", "string"
    ])
}

fn any_value() -> Value {
    json!({"type": all_types()})
}

fn address(value: &Value) -> usize {
    std::ptr::from_ref(value) as usize
}

#[derive(Default)]
struct Walk {
    found: HashMap<usize, Found>,
    /// With the embedded resources that led there, by which the library tells schemas apart.
    seen: HashSet<(usize, List<Uri<String>>)>,
    /// Those that the visit is in.
    open: HashSet<usize>,
}

impl Walk {
    /// Visits a schema and all that it leads to. Returns where it is, unless it is `true`, `false` or no schema.
    fn visit(
        &mut self,
        schema: &Value,
        resolver: &Resolver<'_>,
        draft: Draft,
    ) -> Result<Option<usize>, Refusal> {
        let Value::Object(keywords) = schema else {
            return Ok(None);
        };
        let at = address(schema);
        let visit = (at, resolver.dynamic_scope());
        if self.open.contains(&at) || !self.seen.insert(visit) {
            return Ok(Some(at));
        }
        if self.seen.len() > MAX_VISITS {
            let message = "has too many schemas that embed and refer to each other";
            return Err(Refusal::too_expensive(message));
        }
        self.open.insert(at);
        let classic = matches!(draft, Draft::Draft4 | Draft::Draft6 | Draft::Draft7);
        let only_ref = classic && keywords.get("$ref").is_some_and(Value::is_string);
        let mut in_place = self.references(keywords, resolver, draft)?;
        if !only_ref {
            for (keyword, value) in keywords {
                for child in applied_in_place(keyword, value) {
                    in_place.extend(self.child(child, resolver, draft)?);
                }
            }
            for child in draft.subresources_of(schema) {
                self.child(child, resolver, draft)?;
            }
        }
        self.open.remove(&at);
        let found = self.found.entry(at).or_default();
        found.only_ref = only_ref;
        found.unevaluated = ["unevaluatedProperties", "unevaluatedItems"]
            .iter()
            .any(|keyword| keywords.contains_key(*keyword));
        found.names = named(keywords);
        if found.in_place.is_empty() {
            found.in_place = in_place;
        } else {
            // By way of another embedded resource a `$dynamicRef` may lead to another schema.
            for other in in_place {
                if !found.in_place.contains(&other) {
                    found.in_place.push(other);
                }
            }
        }
        Ok(Some(at))
    }

    fn child(
        &mut self,
        schema: &Value,
        resolver: &Resolver<'_>,
        draft: Draft,
    ) -> Result<Option<usize>, Refusal> {
        let draft = draft.detect(schema);
        match resolver.in_subresource(ResourceRef::new(schema, draft)) {
            Ok(resolver) => self.visit(schema, &resolver, draft),
            // The library says what is wrong with it.
            Err(_) => Ok(None),
        }
    }

    fn references(
        &mut self,
        keywords: &Map<String, Value>,
        resolver: &Resolver<'_>,
        draft: Draft,
    ) -> Result<Vec<usize>, Refusal> {
        let reference = |keyword| keywords.get(keyword).and_then(Value::as_str);
        let by_name = [
            reference("$ref"),
            reference("$dynamicRef")
                .filter(|_| matches!(draft, Draft::Draft202012 | Draft::Unknown)),
        ];
        let by_name = by_name.into_iter().flatten();
        let mut targets: Vec<_> = by_name.map(|name| resolver.lookup(name)).collect();
        if draft == Draft::Draft201909 && keywords.contains_key("$recursiveRef") {
            targets.push(resolver.lookup_recursive_ref());
        }
        let mut in_place = Vec::new();
        // Of one that leads nowhere the library says what is wrong with it.
        for target in targets.into_iter().flatten() {
            let (schema, resolver, draft) = target.into_inner();
            in_place.extend(self.visit(schema, &resolver, draft)?);
        }
        Ok(in_place)
    }
}

/// The schemas that a keyword applies to the value itself.
fn applied_in_place<'a>(keyword: &str, value: &'a Value) -> Vec<&'a Value> {
    match (keyword, value) {
        ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter().collect(),
        ("not" | "if" | "then" | "else", schema) => vec![schema],
        ("dependentSchemas" | "dependencies", Value::Object(schemas)) => schemas.values().collect(),
        _ => Vec::new(),
    }
}

/// How many properties a schema names.
fn named(keywords: &Map<String, Value>) -> u64 {
    ["properties", "patternProperties"]
        .iter()
        .filter_map(|keyword| keywords.get(*keyword)?.as_object())
        .map(|properties| properties.len() as u64)
        .sum()
}

/// What the schemas come to, worked out once for each.
struct Sizes<'a> {
    found: &'a HashMap<usize, Found>,
    /// Nothing as long as it is being worked out.
    known: HashMap<usize, Option<Size>>,
}

impl<'a> Sizes<'a> {
    fn check(found: &'a HashMap<usize, Found>) -> Result<u64, Refusal> {
        let mut sizes = Self {
            found,
            known: HashMap::new(),
        };
        let mut unrolled: u64 = 0;
        for (at, schema) in found {
            let size = sizes.of(*at)?;
            if size.schemas > MAX_UNFOLDED {
                return Err(Refusal::too_expensive(format!(
                    "applies more than {MAX_UNFOLDED} schemas to one value, all alternatives and references together"
                )));
            }
            if size.depth > MAX_DEPTH {
                return Err(Refusal::too_expensive(format!(
                    "applies schemas to one value that are more than {MAX_DEPTH} deep within each other"
                )));
            }
            if schema.unevaluated {
                unrolled = unrolled.saturating_add(size.unrolled);
            }
        }
        if unrolled > MAX_UNROLLED {
            return Err(Refusal::too_expensive(format!(
                "comes to more than {MAX_UNROLLED} schemas and properties for unevaluatedProperties and \
                 unevaluatedItems"
            )));
        }
        Ok(unrolled)
    }

    fn of(&mut self, at: usize) -> Result<Size, Refusal> {
        match self.known.get(&at) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                let message =
                    "refers to itself for the same value, so that a check would never end";
                return Err(Refusal::invalid(message.to_owned()));
            }
            None => {}
        }
        self.known.insert(at, None);
        let found = self.found;
        let mut size = Size {
            schemas: 1,
            depth: 1,
            unrolled: 1 + found.get(&at).map_or(0, |schema| schema.names),
        };
        let in_place = found.get(&at).map_or(&[][..], |schema| &schema.in_place);
        for child in in_place {
            let child = self.of(*child)?;
            size.schemas = size.schemas.saturating_add(child.schemas);
            size.depth = size.depth.max(1 + child.depth);
            size.unrolled = size.unrolled.saturating_add(child.unrolled);
        }
        self.known.insert(at, Some(size));
        Ok(size)
    }
}
