//! Bodies of requests have no other fields than the document lists: what reads them refuses an unknown one. The document
//! says so as `"additionalProperties": false`, for which the framework's model of a schema has no place. So a mark is put
//! there, and [`spell_out`] writes it as what it stands for.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};

const MARK: &str = "no other fields";

/// Says of the object that `schema` leads to, and of all objects in it, that they have no other fields.
pub(crate) fn close(registry: &mut Registry, schema: &MetaSchemaRef) {
    match schema {
        MetaSchemaRef::Inline(schema) => close_parts(registry, schema),
        MetaSchemaRef::Reference(name) => {
            // Taken out meanwhile, so that an object that contains itself comes to an end.
            let Some(mut schema) = registry.schemas.remove(name) else {
                return;
            };
            if !schema.properties.is_empty() && schema.additional_properties.is_none() {
                schema.additional_properties = Some(Box::new(mark()));
            }
            close_parts(registry, &schema);
            registry.schemas.insert(name.clone(), schema);
        }
    }
}

fn close_parts(registry: &mut Registry, schema: &MetaSchema) {
    let fields = schema.properties.iter().map(|(_, schema)| schema);
    let several = [&schema.all_of, &schema.any_of, &schema.one_of];
    let several = several.into_iter().flatten();
    for part in fields.chain(several).chain(schema.items.as_deref()) {
        close(registry, part);
    }
}

fn mark() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        title: Some(MARK.to_owned()),
        ..MetaSchema::ANY
    }))
}

/// Writes `false` for every mark in a document, or in a page that contains it.
pub(crate) fn spell_out(document: &str) -> String {
    let mark = format!("\"title\": \"{MARK}\"");
    let mut parts = document.split(mark.as_str());
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let before = written.trim_end();
        let before = before.strip_suffix('{').unwrap_or(before).len();
        written.truncate(before);
        written.push_str("false");
        let after = part.trim_start();
        written.push_str(after.strip_prefix('}').unwrap_or(after));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_written_as_false_and_everything_else_stays() {
        let schema = MetaSchema {
            additional_properties: Some(Box::new(mark())),
            ..MetaSchema::new("object")
        };
        let text = serde_json::to_string_pretty(&[&schema, &MetaSchema::new("string")]).unwrap();
        let written = spell_out(&text);
        let read: serde_json::Value = serde_json::from_str(&written).unwrap();
        let wanted = serde_json::json!([{"type": "object", "additionalProperties": false}, {"type": "string"}]);
        assert_eq!(read, wanted);
        assert_eq!(spell_out(&written), written);
    }
}
