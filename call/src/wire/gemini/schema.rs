//! Gemini's own schema language, a dialect of OpenAPI's, as JSON schema.
//!
//! It writes types in capitals, whole numbers as strings, and null as `nullable`; what it has no other word for stays.

use serde_json::{Map, Value};

/// The JSON schema that says the same. The recursion is bounded: a parsed body nests no deeper than 128 levels.
pub(super) fn json_schema(schema: &Value) -> Value {
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
        other => other,
    };
    let value = match (key, value) {
        ("nullable", Value::Bool(_)) => return None,
        ("type", Value::String(name)) if name == "TYPE_UNSPECIFIED" => return None,
        ("type", Value::String(name)) => name.to_ascii_lowercase().into(),
        (key, Value::String(number)) if key.starts_with("min") || key.starts_with("max") => match number.parse::<i64>()
        {
            Ok(number) => number.into(),
            Err(_) => value.clone(),
        },
        ("properties" | "$defs" | "defs", Value::Object(named)) => named
            .iter()
            .map(|(name, schema)| (name.clone(), json_schema(schema)))
            .collect(),
        ("anyOf" | "prefixItems", Value::Array(schemas)) => schemas.iter().map(json_schema).collect(),
        ("items" | "additionalProperties", schema) => json_schema(schema),
        (_, value) => value.clone(),
    };
    Some((key, value))
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(kind @ Value::String(_)) = schema.get_mut("type") {
        *kind = Value::Array(vec![kind.take(), "null".into()]);
    } else if let Some(Value::Array(schemas)) = schema.get_mut("anyOf") {
        schemas.push(serde_json::json!({"type": "null"}));
    }
    if let Some(Value::Array(allowed)) = schema.get_mut("enum")
        && !allowed.contains(&Value::Null)
    {
        allowed.push(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_numbers_and_null_are_said_in_json_schema() {
        let schema = json!({"type": "OBJECT", "required": ["type"], "propertyOrdering": ["type"], "properties": {
            "type": {"type": "STRING", "enum": ["A", "B"], "nullable": true, "description": "STRING"},
            "nullable": {"type": "ARRAY", "minItems": "1", "max_items": 3, "items": {"type": "INTEGER", "minimum": 0}},
            "either": {"any_of": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": true},
            "any": {"type": "TYPE_UNSPECIFIED"}, "odd": 7}});
        let expected = json!({"type": "object", "required": ["type"], "propertyOrdering": ["type"], "properties": {
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
}
