//! What a schema says about payloads, and what no schema can do.

use std::time::Instant;

use serde_json::json;

use super::*;

/// On a thread with the stack that the threads for checks have.
pub(super) fn on_a_thread_for_checks<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(32 << 20);
        let running = thread.spawn_scoped(scope, work).unwrap();
        running.join().unwrap()
    })
}

fn plenty() -> Allowed {
    Allowed::at_most(1 << 20, None)
}

fn errors(schema: &Value, payload: &str) -> Vec<(String, String)> {
    let schema = Schema::compile(schema).unwrap();
    let (findings, _) = schema.check(payload, &plenty()).unwrap();
    let errors = findings.err().unwrap_or_default().into_iter();
    errors.map(|error| (error.path, error.message)).collect()
}

fn refused(schema: &Value) -> FieldError {
    match Schema::compile(schema).unwrap_err() {
        Refusal::Invalid(error) => error,
        Refusal::TooExpensive(error) => panic!("too expensive: {error:?}"),
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_without_the_value() {
    let schema = json!({
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": {
                "type": "object",
                "properties": {"price": {"type": "number", "minimum": 0}, "sku": {"pattern": "^[A-Z]+$"}},
                "required": ["price"],
            }},
            "at": {"type": "string", "format": "date-time"},
            "state": {"enum": ["open", "closed"]},
            "a.b": {"type": ["string", "null"]},
        },
        "additionalProperties": false,
    });
    let payload = r#"{"items": [{"price": 1}, {"sku": "tok_secret"}, {"price": -4711}], "at": "tok_secret",
        "state": "tok_secret", "a.b": 4711, "tok_name": "tok_secret"}"#;
    let errors = errors(&schema, payload);
    for (path, words) in [
        ("payload.items[1].price", "is missing"),
        ("payload.items[1].sku", "does not match \"^[A-Z]+$\""),
        ("payload.items[2].price", "less than the minimum of 0"),
        ("payload.at", "date-time"),
        ("payload.state", "\"open\""),
        ("payload.a.b", "null"),
        ("payload.tok_name", "is not a property"),
    ] {
        let told = errors.iter().find(|(at, _)| at == path);
        let (_, message) = told.unwrap_or_else(|| panic!("{path} in {errors:?}"));
        assert!(message.contains(words), "{path}: {message}");
        assert!(
            !message.contains("tok_") && !message.contains("4711"),
            "{message}"
        );
    }
    assert_eq!(errors.len(), 7, "{errors:?}");
}

#[test]
fn of_many_mistakes_some_are_told() {
    let schema = json!({"items": {"type": "string"}});
    let payload = |items: usize| json!(vec![0; items]).to_string();
    assert_eq!(errors(&schema, &payload(1_000)).len(), MAX_ERRORS);
    // Too many to look at each of them.
    let few = errors(&schema, &payload(400_000));
    assert_eq!((few.len(), few[0].0.as_str()), (1, "payload[0]"));
    let names: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("n{n}"), json!(1))).collect();
    let schema = json!({"properties": {"a": {}}, "additionalProperties": false});
    let all = errors(&schema, &json!(names).to_string());
    assert_eq!(all.len(), MAX_ERRORS, "{all:?}");
}

#[test]
fn what_json_cannot_carry_as_a_value_does_not_fit() {
    let schema = json!({"type": "number"});
    assert_eq!(errors(&schema, "1"), []);
    for payload in ["1e400".to_owned(), "[".repeat(200) + &"]".repeat(200)] {
        let errors = errors(&schema, &payload);
        assert_eq!(errors[0].0, "payload", "{errors:?}");
    }
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    for (schema, path) in [
        (json!(true), "schema"),
        (json!([]), "schema"),
        (json!({"type": "strin"}), "schema.type"),
        (
            json!({"properties": {"a": {"minimum": "1"}}}),
            "schema.properties.a.minimum",
        ),
        (json!({"required": "a"}), "schema.required"),
        (json!({"pattern": "("}), "schema.pattern"),
        // Matched in linear time or not at all.
        (json!({"pattern": "^(?!a)"}), "schema.pattern"),
        (json!({"pattern": r"(a)\1"}), "schema.pattern"),
        (json!({"pattern": "((a{100}){100}){100}"}), "schema.pattern"),
        (json!({"$comment": "x".repeat(70_000)}), "schema"),
    ] {
        let error = refused(&schema);
        assert!(error.path.starts_with(path), "{schema}: {error:?}");
        assert!(
            error.message.chars().count() <= MAX_MESSAGE + 1,
            "{error:?}"
        );
    }
    let patterns: Vec<Value> = (0..101)
        .map(|n| json!({"pattern": format!("{n}")}))
        .collect();
    assert_eq!(refused(&json!({"anyOf": patterns})).path, "schema");
}

#[test]
fn nothing_is_fetched() {
    for schema in [
        json!({"$ref": "https://example.com/schema.json"}),
        json!({"$ref": "file:///etc/hostname"}),
        json!({"$id": "https://example.com/a.json", "properties": {"b": {"$ref": "b.json"}}}),
        json!({"$schema": "https://example.com/own-draft"}),
        json!({"$dynamicRef": "https://example.com/schema.json#node"}),
    ] {
        let error = refused(&schema);
        assert!(error.path.starts_with("schema"), "{error:?}");
    }
    let own = json!({
        "$id": "https://example.com/a.json", "$defs": {"b": {"type": "string"}},
        "properties": {"b": {"$ref": "#/$defs/b"}, "c": {"$ref": "https://example.com/a.json#/$defs/b"}},
    });
    assert_eq!(errors(&own, r#"{"b": 1, "c": "x"}"#).len(), 1);
}

#[test]
fn every_draft_is_taken_at_its_word() {
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        let schema = json!({
            "$schema": draft, "definitions": {"id": {"type": "string", "minLength": 2}},
            "properties": {"id": {"$ref": "#/definitions/id"}}, "required": ["id"],
        });
        assert_eq!(errors(&schema, r#"{"id": "ab"}"#), [], "{draft}");
        assert_eq!(errors(&schema, r#"{"id": "a"}"#).len(), 1, "{draft}");
    }
}

#[test]
fn a_schema_may_refer_to_the_schema_of_any_draft() {
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        let schema = json!({"properties": {"a": {"$ref": draft}}});
        assert_eq!(errors(&schema, r#"{"a": {"minLength": 1}}"#), [], "{draft}");
        let errors = errors(&schema, r#"{"a": {"minLength": "1"}}"#);
        assert!(!errors.is_empty(), "{draft}");
    }
}

/// The steps of a check that fits; [`TooMuch`] when it costs more than the most that is allowed.
fn cost(schema: &Value, payload: &Value) -> Result<u64, TooMuch> {
    let schema = Schema::compile(schema).unwrap();
    let (findings, steps) = schema.check(&payload.to_string(), &plenty())?;
    assert_eq!(findings, Ok(()));
    Ok(steps)
}

/// The library compares the name of each group with all names before it.
#[test]
fn a_regular_expression_in_a_payload_costs_the_square_of_its_length() {
    let expression =
        |groups: usize| -> String { (0..groups).map(|n| format!("(?<z{n}>)")).collect() };
    let schema = json!({"format": "regex"});
    for (groups, least) in [(10, 100), (100, 10_000), (1_000, 1_000_000)] {
        let steps = cost(&schema, &json!(expression(groups))).unwrap();
        assert!(steps >= least, "{groups}: {steps}");
    }
    let long = json!(expression(30_000));
    assert_eq!(cost(&schema, &long), Err(TooMuch));
    let names = json!({"propertyNames": {"format": "regex"}});
    assert_eq!(cost(&names, &json!({expression(30_000): 1})), Err(TooMuch));
    assert!(cost(&schema, &json!("^[a-z]{1,20}@example[.]com$")).unwrap() < 100);
}

/// The library divides exactly, with as many digits as that takes.
#[test]
fn a_division_costs_the_square_of_the_powers_between_its_numbers() {
    for (divisor, number, least) in [
        (json!(5e-324), json!(1e308), 100_000),
        (json!(1e-300), json!(1e300), 100_000),
        (json!(1e-100), json!(1e100), 10_000),
    ] {
        let schema = Schema::compile(&json!({"items": {"multipleOf": divisor}})).unwrap();
        let one = schema.check(&json!([number]).to_string(), &plenty());
        let (_, steps) = one.unwrap();
        assert!(steps >= least, "{divisor} {number}: {steps}");
        let many = json!(vec![number; 2_000]).to_string();
        let on_a_thread_that_answers = schema.check(&many, &Allowed::little());
        assert_eq!(on_a_thread_that_answers, Err(TooMuch));
    }
    let prices = json!({"items": {"multipleOf": 0.01}});
    assert!(cost(&prices, &json!([0, 19.99, 0.01, 1_000_000])).unwrap() < 200);
    let wrong = errors(&prices, "[0.001]");
    let message = "the value is not a multiple of 0.01".to_owned();
    assert_eq!(wrong, [("payload[0]".to_owned(), message)]);
}

#[test]
fn a_check_on_a_thread_that_answers_ends_when_its_time_is_used_up() {
    let items = Schema::compile(&json!({"items": {"type": "integer"}})).unwrap();
    let little = Allowed {
        until: Some(Instant::now()),
        ..Allowed::little()
    };
    let few = json!(vec![1; 100]).to_string();
    assert_eq!(items.check(&few, &little), Err(TooMuch));
}

#[test]
fn a_long_text_costs_little_to_match_with_a_class_that_is_counted() {
    let text = json!(vec!["x".repeat(1_000); 80]);
    for pattern in [r"[\x20-\x7e]{1,1000}", r"^[\x20-\x7e]{1,1000}$"] {
        let steps = cost(&json!({"items": {"pattern": pattern}}), &text).unwrap();
        assert!(steps < 20_000, "{pattern}: {steps}");
    }
}

/// Schemas and payloads whose full check would take longer than anybody waits, or would never end.
#[test]
fn no_schema_makes_a_check_endless() {
    let mut doubling = serde_json::Map::new();
    for n in 0..60 {
        let next = json!({"$ref": format!("#/$defs/a{}", n + 1)});
        doubling.insert(
            format!("a{n}"),
            json!({"allOf": [next, next, {"anyOf": [next, next]}]}),
        );
    }
    doubling.insert("a60".to_owned(), json!({"type": "string"}));
    let again = json!({"$ref": "#"});
    let deep = "{\"c\":".repeat(100) + "1" + &"}".repeat(100);
    let many_patterns: serde_json::Map<String, Value> = (0..100)
        .map(|n| (format!("{n}x"), json!({"type": "string"})))
        .collect();
    let many_names: serde_json::Map<String, Value> =
        (0..50_000).map(|n| (format!("{n}"), json!(1))).collect();
    let draft_7 = "http://json-schema.org/draft-07/schema#";
    let cases = [
        (
            json!({"$defs": doubling, "$ref": "#/$defs/a0"}),
            "1".to_owned(),
        ),
        (
            json!({"not": {"$defs": doubling, "$ref": "#/not/$defs/a0"}}),
            "1".to_owned(),
        ),
        (
            json!({"properties": {"c": {"oneOf": [again, again, {"not": again}]}}, "type": "object"}),
            deep.clone(),
        ),
        (
            json!({"properties": {"c": {"allOf": [again, again]}}, "unevaluatedProperties": false}),
            deep,
        ),
        (json!({"$ref": "#"}), "1".to_owned()),
        (json!({"$schema": draft_7, "$ref": "#"}), "1".to_owned()),
        (
            json!({"$schema": draft_7, "definitions": {
                "a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"},
            }, "$ref": "#/definitions/a"}),
            "1".to_owned(),
        ),
        (json!({"allOf": [again, {"not": again}]}), "1".to_owned()),
        (
            json!({"$dynamicAnchor": "n", "anyOf": [{"$dynamicRef": "#n"}, {"type": "null"}]}),
            "1".to_owned(),
        ),
        (
            json!({"patternProperties": many_patterns}),
            json!(many_names).to_string(),
        ),
        (
            json!({"items": {"enum": (0..10_000).collect::<Vec<_>>()}}),
            json!(vec![-1; 400_000]).to_string(),
        ),
        (
            json!({"uniqueItems": true}),
            json!((0..300_000).collect::<Vec<_>>()).to_string(),
        ),
        (
            json!({"pattern": "(?:[ab]{1,99}c?){1,20}d"}),
            json!("ab".repeat(500_000)).to_string(),
        ),
    ];
    for (schema, payload) in cases {
        let text = schema.to_string();
        let text: String = text.chars().take(100).collect();
        let began = Instant::now();
        // Refused as a schema, refused as too expensive, or answered: each will do.
        on_a_thread_for_checks(|| {
            let allowed = Allowed::at_most(24 << 20, None);
            let _ = Schema::compile(&schema).map(|schema| schema.check(&payload, &allowed));
        });
        assert!(
            began.elapsed().as_secs() < 10,
            "{:?}: {text}",
            began.elapsed()
        );
    }
}

/// Definitions that each apply the next one twice.
fn chain(length: usize, keyword: &str) -> Value {
    let mut definitions = serde_json::Map::new();
    for n in 0..length {
        let next = json!({"$ref": format!("#/$defs/l{}", n + 1)});
        definitions.insert(format!("l{n}"), json!({keyword: [next, next]}));
    }
    definitions.insert(format!("l{length}"), json!({"type": "string"}));
    Value::Object(definitions)
}

fn too_expensive(schema: &Value) -> bool {
    on_a_thread_for_checks(|| matches!(Schema::compile(schema), Err(Refusal::TooExpensive(_))))
}

#[test]
fn a_schema_that_unfolds_too_far_is_refused_before_it_is_compiled() {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for length in [20, 40] {
            let chain = chain(length, keyword);
            for schema in [
                json!({"$defs": chain, "$ref": "#/$defs/l0"}),
                json!({"$defs": chain, "not": {"$ref": "#/$defs/l0"}}),
                json!({"$defs": chain, "items": {"$ref": "#/$defs/l0"}}),
                json!({"$defs": chain, "dependentSchemas": {"a": {"$ref": "#/$defs/l0"}}}),
                json!({"$defs": chain, "$ref": "#/$defs/l0", "unevaluatedProperties": false}),
                json!({
                    "$schema": "http://json-schema.org/draft-07/schema#", "$defs": chain,
                    "if": {"$ref": "#/$defs/l0"}, "then": false,
                }),
            ] {
                assert!(too_expensive(&schema), "{keyword} {length}");
            }
        }
    }
    // Few schemas, which the library would unfold for each of many.
    let many: Vec<Value> = (0..1_000)
        .map(|_| json!({"$ref": "#/$defs/l0", "unevaluatedItems": false}))
        .collect();
    let schema = json!({"$defs": chain(5, "anyOf"), "prefixItems": many});
    assert!(too_expensive(&schema));
    // Embedded resources, which the library tells apart by the way that leads to them.
    let mut layers = serde_json::Map::new();
    for n in 0..20 {
        for name in ["a", "b"] {
            let next = |name| json!({"$ref": format!("https://example.com/{}{name}", n + 1)});
            let id = format!("https://example.com/{n}{name}");
            let schema = match n {
                19 => json!({"$id": id}),
                _ => json!({"$id": id, "properties": {"a": next("a"), "b": next("b")}}),
            };
            layers.insert(format!("{n}{name}"), schema);
        }
    }
    let schema =
        json!({"$id": "https://example.com/", "$defs": layers, "$ref": "https://example.com/0a"});
    assert!(too_expensive(&schema));
}

/// Each with a payload that fits and one that does not.
#[test]
fn schemas_as_people_write_them_cost_little() {
    let node = json!({"$ref": "#/$defs/node"});
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {
        "type": "object", "required": ["value"], "additionalProperties": false,
        "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": node}},
    }}});
    let properties: serde_json::Map<String, Value> = (0..500)
        .map(|n| {
            (
                format!("p{n}"),
                json!({"type": ["string", "null"], "maxLength": 20}),
            )
        })
        .collect();
    let wide = json!({"type": "object", "properties": properties, "additionalProperties": false});
    let mut components: serde_json::Map<String, Value> = (0..250)
        .map(|n| {
            let next = format!("#/components/schemas/S{}", (n * 7 + 1) % 250);
            let properties = json!({
                "kind": {"const": format!("k{n}")}, "next": {"$ref": next}, "any": {"$ref": "#/components/schemas/Any"},
            });
            let schema = json!({"type": "object", "required": ["kind"], "properties": properties});
            (format!("S{n}"), schema)
        })
        .collect();
    let any: Vec<Value> = (0..250)
        .map(|n| json!({"$ref": format!("#/components/schemas/S{n}")}))
        .collect();
    components.insert("Any".to_owned(), json!({"oneOf": any}));
    let api = json!({"components": {"schemas": components}, "$ref": "#/components/schemas/Any"});
    let meta = json!({"$ref": "https://json-schema.org/draft/2020-12/schema"});
    let all: serde_json::Map<String, Value> =
        (0..500).map(|n| (format!("p{n}"), json!("x"))).collect();
    for (schema, fits, fits_not) in [
        (
            &tree,
            json!({"value": 1, "children": [{"value": 2}, {"value": 3, "children": []}]}),
            json!({"value": 1, "children": [{"value": "2"}]}),
        ),
        (&wide, json!(all), json!({"p1": 1})),
        (
            &api,
            json!({"kind": "k3", "any": {"kind": "k4", "next": {"kind": "k29"}}}),
            json!({"kind": "k3", "any": {"kind": "k4", "next": {"kind": "k30"}}}),
        ),
        (&meta, api.clone(), json!({"properties": []})),
    ] {
        let compiled = on_a_thread_for_checks(|| Schema::compile(schema).unwrap());
        let steps = |payload: &Value| {
            let allowed = Allowed::at_most(24 << 20, None);
            let check = || compiled.check(&payload.to_string(), &allowed).unwrap();
            let (findings, steps) = on_a_thread_for_checks(check);
            (findings.is_ok(), steps)
        };
        let (ok, cost) = steps(&fits);
        assert!(ok && cost < 100_000, "{ok} {cost}: {fits}");
        let (ok, cost) = steps(&fits_not);
        // To say what is wrong takes more: each of 250 alternatives has its own reason.
        assert!(!ok && cost < 5_000_000, "{ok} {cost}: {fits_not}");
    }
}

#[test]
fn a_check_ends_when_its_steps_its_stack_or_its_time_is_used_up() {
    let again = json!({"$ref": "#"});
    let schema =
        json!({"properties": {"c": {"oneOf": [again, {"not": again}]}}, "minProperties": 1});
    let schema = Schema::compile(&schema).unwrap();
    let payload = "{\"c\":".repeat(100) + "1" + &"}".repeat(100);
    let plenty = Allowed::at_most(24 << 20, None);
    let ends = |allowed: Allowed| {
        on_a_thread_for_checks(|| schema.check(&payload, &allowed)) == Err(TooMuch)
    };
    assert!(!ends(plenty));
    assert!(ends(Allowed {
        steps: 50,
        ..plenty
    }));
    assert!(ends(Allowed {
        stack: 4 * 1024,
        ..plenty
    }));
    let items = Schema::compile(&json!({"items": {"type": "integer"}})).unwrap();
    let past = Allowed {
        until: Some(Instant::now()),
        ..plenty
    };
    let many = json!(vec![1; 100_000]).to_string();
    assert_eq!(items.check(&many, &past), Err(TooMuch));
    // The next check on the same thread is not touched by it.
    assert!(items.check(&many, &plenty).is_ok());
}

#[test]
fn items_are_unique_by_their_value() {
    let schema = json!({"uniqueItems": true});
    for (payload, unique) in [
        ("[1, 1.0]", false),
        ("[0, -0.0]", false),
        (
            "[1, true, \"1\", [1], {\"a\": 1}, null, [[1]], [[], 1], [1, []]]",
            true,
        ),
        ("[{\"a\": 1, \"b\": [1]}, {\"b\": [1.0], \"a\": 1}]", false),
        ("[18446744073709551615, 18446744073709551615.0]", true),
        ("[0.1, 0.1]", false),
        ("[1e300, 1e300]", false),
        ("[1e300, 1e301]", true),
    ] {
        assert_eq!(errors(&schema, payload).is_empty(), unique, "{payload}");
    }
}
