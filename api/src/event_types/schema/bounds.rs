//! Whatever the schema and the payload: a check takes no more than it may, and says what the library says.

use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest},
    sample::select,
};
use serde_json::{Map, Value, json};

use super::{Allowed, Findings, Refusal, Schema, tests::on_a_thread_for_checks};

/// What a drawn check may cost, and one of what is hard: enough for looking at all of it.
const STEPS: u64 = 20_000;
const STEPS_OF_HARD: u64 = 100_000;
/// Processor time that a step may take in a build without optimisations, and a check besides its steps.
const NANOSECONDS_A_STEP: u64 = 3_000;
/// For the tables of the patterns, mostly. The time for reading the payload as JSON comes on top.
const NANOSECONDS_BESIDES: u64 = 300_000_000;
const NAMES: [&str; 4] = ["a", "b", "c", "xa"];
const PATTERNS: [&str; 5] = ["^a", "a+b", "(a|b)*aab{2,40}$", "[ab]{1,30}c", "^(a?){20}$"];

fn name() -> impl Strategy<Value = String> {
    select(&NAMES[..]).prop_map(str::to_owned)
}

fn payload() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..4_i32).prop_map(Value::from),
        Just(json!(1.0)),
        Just(json!(0.5)),
        "[ab]{0,6}".prop_map(Value::from),
        (1..2_000_usize).prop_map(|len| Value::from("ab".repeat(len))),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            // Many of the same.
            (inner.clone(), 1..200_usize).prop_map(|(item, times)| Value::from(vec![item; times])),
            vec((name(), inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn assertion() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(
            &[
                "string", "integer", "number", "array", "object", "null", "boolean"
            ][..]
        )
        .prop_map(|kind| json!({"type": kind})),
        Just(json!({})),
        any::<bool>().prop_map(Value::from),
        payload().prop_map(|value| json!({"const": value})),
        vec(payload(), 1..4).prop_map(|values| json!({"enum": values})),
        Just(json!({"uniqueItems": true})),
        select(&PATTERNS[..]).prop_map(|pattern| json!({"pattern": pattern})),
        select(&["email", "date-time", "uri", "regex", "idn-hostname"][..])
            .prop_map(|format| json!({"format": format})),
        (0..4).prop_map(
            |bound| json!({"minLength": bound, "maxItems": bound, "minProperties": bound})
        ),
        btree_set(name(), 1..3).prop_map(|names| json!({"dependentRequired": {"a": names}})),
        select(&NAMES[..]).prop_map(|name| json!({"required": [name]})),
        select(&NAMES[..3]).prop_map(|to| json!({"$ref": format!("#/$defs/{to}")})),
        Just(json!({"$ref": "#"})),
        Just(json!({"$dynamicRef": "#node"})),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    assertion().prop_recursive(4, 30, 4, |inner| {
        let some = vec(inner.clone(), 1..5);
        let named = vec((name(), inner.clone()), 1..4);
        let named = named
            .prop_map(|schemas| schemas.into_iter().collect::<Map<_, _>>())
            .boxed();
        prop_oneof![
            (
                select(&["allOf", "anyOf", "oneOf", "prefixItems"][..]),
                some
            )
                .prop_map(|(keyword, schemas)| json!({keyword: schemas})),
            (
                select(
                    &[
                        "not",
                        "items",
                        "contains",
                        "additionalProperties",
                        "propertyNames",
                        "unevaluatedProperties",
                        "unevaluatedItems"
                    ][..]
                ),
                inner.clone(),
                option::of(inner.clone()),
            )
                .prop_map(|(keyword, schema, all)| match all {
                    Some(all) => json!({keyword: schema, "allOf": [all]}),
                    None => json!({keyword: schema}),
                }),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
            (
                select(&["properties", "dependentSchemas"][..]),
                named.clone()
            )
                .prop_map(|(keyword, schemas)| json!({keyword: schemas})),
            named.prop_map(|schemas| {
                let schemas = schemas
                    .into_iter()
                    .map(|(name, schema)| (format!("^{name}"), schema));
                json!({"patternProperties": Map::from_iter(schemas)})
            }),
        ]
    })
}

/// Keywords and formats on what is hard for them, in an array.
fn hard() -> impl Strategy<Value = (Value, Value)> {
    let divisors = select(&[5e-324, 1e-300, 0.01][..]);
    let numbers = select(&[1e308, 1.234_567_890_123_4e300, 19.99][..]);
    let divided = (divisors, numbers, 200..400_usize);
    let formats = &[
        "regex",
        "email",
        "hostname",
        "time",
        "duration",
        "uri",
        "iri",
        "iri-reference",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
    ][..];
    let texts = (0..6_usize, 1..20_000_usize).prop_map(|(kind, times)| match kind {
        0 => "(".repeat(times),
        1 => format!("http://a/{}", "é".repeat(times)),
        2 => "/%41".repeat(times),
        3 => "{a}".repeat(times),
        4 => "1".repeat(times),
        _ => format!("{}@a", "a.".repeat(times)),
    });
    let expressions = (1_000..20_000_usize)
        .prop_map(|groups| -> String { (0..groups).map(|n| format!("(?<z{n}>)")).collect() });
    prop_oneof![
        divided.prop_map(|(divisor, number, times)| {
            (
                json!({"items": {"multipleOf": divisor}}),
                json!(vec![number; times]),
            )
        }),
        (select(formats), vec(texts, 1..4))
            .prop_map(|(format, texts)| (json!({"items": {"format": format}}), json!(texts))),
        expressions.prop_map(|text| (json!({"items": {"format": "regex"}}), json!([text]))),
    ]
}

fn document() -> impl Strategy<Value = Value> {
    vec(schema(), 4).prop_map(|mut schemas| {
        let mut root = schemas.pop().unwrap_or_default();
        let mut node = schemas.pop().unwrap_or_default();
        match node.as_object_mut() {
            Some(node) => drop(node.insert("$dynamicAnchor".to_owned(), json!("node"))),
            None => node = json!({"$dynamicAnchor": "node"}),
        }
        let definitions = json!({"a": node, "b": schemas.pop(), "c": schemas.pop()});
        match root.as_object_mut() {
            Some(root) => root.insert("$defs".to_owned(), definitions),
            None => return json!({"$defs": definitions, "$ref": "#/$defs/a"}),
        };
        root
    })
}

/// Processor time of this thread, which no other process makes longer, in nanoseconds; zero where the system does not
/// tell it.
fn processor_time() -> u64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let mut times = times.split(' ').map(|time| time.parse().unwrap_or(0));
    times.next().unwrap_or(0)
}

fn library_says(schema: &Value, payload: &Value) -> bool {
    let library = jsonschema::options()
        .offline()
        .with_pattern_options(super::patterns::options())
        .should_validate_formats(true)
        .build(schema)
        .unwrap();
    library.is_valid(payload)
}

fn checked(schema: &Schema, payload: &str, steps: u64) -> Option<(Findings, u64)> {
    let allowed = Allowed {
        steps,
        telling: steps,
        ..Allowed::at_most(8 << 20, None)
    };
    schema.check(payload, &allowed).ok()
}

fn assert_within(allowed: u64, document: &Value, payload: &Value) {
    let schema = match Schema::compile(document) {
        Ok(schema) => schema,
        // It refers to itself in place, unfolds too far, or is too long.
        Err(Refusal::Invalid(error)) if error.message.contains("refers to itself") => return,
        Err(Refusal::TooExpensive(_)) => return,
        Err(Refusal::Invalid(error)) if error.message.contains("bytes") => return,
        Err(refusal) => panic!("{refusal:?}: {document}"),
    };
    let text = payload.to_string();
    let began = processor_time();
    assert!(serde_json::from_str::<Value>(&text).is_ok());
    let reading = processor_time() - began;
    let began = processor_time();
    let checked = checked(&schema, &text, allowed);
    let took = processor_time() - began;
    // Verdict, all mistakes, the first mistake.
    let bound = NANOSECONDS_BESIDES + 2 * reading + 3 * allowed * NANOSECONDS_A_STEP;
    assert!(took <= bound, "{took} ns: {document} {payload}");
    if let Some((findings, steps)) = checked {
        assert!(steps <= 2 * allowed, "{steps} steps: {document} {payload}");
        let fits = library_says(document, payload);
        assert_eq!(findings.is_ok(), fits, "{document} {payload}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_check_stays_within_its_bound_and_within_it_says_what_the_library_says(
        document in document(), payload in payload(),
    ) {
        on_a_thread_for_checks(|| assert_within(STEPS, &document, &payload));
    }

    #[test]
    fn what_is_hard_for_a_keyword_stays_within_the_bound_too((document, payload) in hard()) {
        on_a_thread_for_checks(|| assert_within(STEPS_OF_HARD, &document, &payload));
    }
}
