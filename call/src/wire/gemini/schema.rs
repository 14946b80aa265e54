//! Gemini's own schema language, a dialect of OpenAPI's, as JSON schema.
//!
//! It writes types in capitals, whole numbers as strings, null as `nullable`, and the order of properties apart; what it
//! has no other word for stays.

use serde_json::{Map, Value, json};

/// The JSON schema that says the same. The recursion is bounded: a parsed body nests no deeper than 128 levels.
pub(crate) fn json_schema(schema: &Value) -> Value {
    let Value::Object(fields) = schema else {
        return schema.clone();
    };
    let mut converted = Map::new();
    for (key, value) in fields {
        if let Some((key, value)) = keyword(key, value) {
            converted.insert(key.into(), value);
        }
    }
    if fields.get("nullable").and_then(Value::as_bool) == Some(true) {
        allow_null(&mut converted);
    }
    let order = fields
        .get("propertyOrdering")
        .or_else(|| fields.get("property_ordering"));
    if let (Some(Value::Object(properties)), Some(Value::Array(order))) = (converted.get_mut("properties"), order) {
        put_in_order(properties, order);
    }
    Value::Object(converted)
}

/// One keyword with its value; none where JSON schema says it elsewhere or not at all.
fn keyword<'a>(key: &'a str, value: &Value) -> Option<(&'a str, Value)> {
    let key = match key {
        "any_of" => "anyOf",
        "min_items" => "minItems",
        "max_items" => "maxItems",
        "min_length" => "minLength",
        "max_length" => "maxLength",
        "min_properties" => "minProperties",
        "max_properties" => "maxProperties",
        "additional_properties" => "additionalProperties",
        "property_ordering" => "propertyOrdering",
        "defs" => "$defs",
        "example" => "examples",
        other => other,
    };
    let value = match (key, value) {
        ("nullable", Value::Bool(_)) | ("propertyOrdering", Value::Array(_)) => return None,
        ("type", Value::String(name)) if name == "TYPE_UNSPECIFIED" => return None,
        ("type", Value::String(name)) => name.to_ascii_lowercase().into(),
        (key, Value::String(number)) if key.starts_with("min") || key.starts_with("max") => match number.parse::<i64>()
        {
            Ok(number) => number.into(),
            Err(_) => value.clone(),
        },
        ("properties" | "$defs", Value::Object(named)) => named
            .iter()
            .map(|(name, schema)| (name.clone(), json_schema(schema)))
            .collect(),
        ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(schemas)) => {
            schemas.iter().map(json_schema).collect()
        }
        ("items" | "additionalProperties", schema) => json_schema(schema),
        ("ref", Value::String(path)) => return Some(("$ref", path.replacen("#/defs/", "#/$defs/", 1).into())),
        ("examples", example) if !example.is_array() => json!([example]),
        (_, value) => value.clone(),
    };
    Some((key, value))
}

/// Constrained decoding writes properties in the order of the schema: the named ones come first.
fn put_in_order(properties: &mut Map<String, Value>, order: &[Value]) {
    let mut ordered = Map::new();
    for name in order.iter().filter_map(Value::as_str) {
        if let Some(schema) = properties.shift_remove(name) {
            ordered.insert(name.to_owned(), schema);
        }
    }
    ordered.append(properties);
    *properties = ordered;
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(kind @ Value::String(_)) = schema.get_mut("type") {
        *kind = Value::Array(vec![kind.take(), "null".into()]);
    } else if let Some(Value::Array(schemas)) = schema.get_mut("anyOf") {
        schemas.push(json!({"type": "null"}));
    }
    if let Some(Value::Array(allowed)) = schema.get_mut("enum")
        && !allowed.contains(&Value::Null)
    {
        allowed.push(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_numbers_and_null_are_said_in_json_schema() {
        let schema = json!({"type": "OBJECT", "required": ["type"], "propertyOrdering": ["type"], "properties": {
            "type": {"type": "STRING", "enum": ["A", "B"], "nullable": true, "description": "STRING"},
            "nullable": {"type": "ARRAY", "minItems": "1", "max_items": 3, "items": {"type": "INTEGER", "minimum": 0}},
            "either": {"any_of": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": true},
            "any": {"type": "TYPE_UNSPECIFIED"}, "odd": 7}});
        let expected = json!({"type": "object", "required": ["type"], "properties": {
            "type": {"type": ["string", "null"], "enum": ["A", "B", null], "description": "STRING"},
            "nullable": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "integer", "minimum": 0}},
            "either": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "null"}]},
            "any": {}, "odd": 7}});
        assert_eq!(json_schema(&schema), expected);
    }

    #[test]
    fn plain_json_schema_stays_as_it_is() {
        let schema =
            json!({"type": "object", "properties": {"x": {"type": ["string", "null"], "default": {"type": "A"}}}});
        assert_eq!(json_schema(&schema), schema);
        assert_eq!(json_schema(&json!(true)), json!(true));
    }

    #[test]
    fn order_references_and_examples_have_words_in_json_schema() {
        let schema = json!({
            "properties": {
                "a": {"type": "STRING", "nullable": true, "enum": ["x"]},
                "b": {"anyOf": [{"ref": "#/defs/B"}], "nullable": true, "example": 1},
                "c": {"type": "STRING", "nullable": false},
            },
            "defs": {"B": {"type": "INTEGER"}},
            "propertyOrdering": ["c", "missing", "a"],
        });
        let written = json_schema(&schema);
        let expected = json!({
            "properties": {
                "c": {"type": "string"},
                "a": {"type": ["string", "null"], "enum": ["x", null]},
                "b": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}], "examples": [1]},
            },
            "$defs": {"B": {"type": "integer"}},
        });
        assert_eq!(written.to_string(), expected.to_string());
    }
}
