//! Gemini's schemas (a subset of OpenAPI 3.0) as JSON Schema.
//!
//! Says the same in other words and leaves nothing out: keys unknown here stay as they are.

use serde_json::{Map, Value, json};

use super::super::fields::camel_case;

/// The JSON Schema that says the same. Recurses no deeper than the parsed body nests, which the parser bounds.
pub(super) fn json_schema(schema: &Value) -> Value {
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let mut out = Map::new();
    let mut is_nullable = false;
    let mut order: &[Value] = &[];
    for (key, value) in fields {
        match (camel_case(key).as_ref(), value) {
            ("nullable", Value::Bool(nullable)) => is_nullable = *nullable,
            ("propertyOrdering", Value::Array(names)) => order = names,
            ("type", Value::String(name)) if name == "TYPE_UNSPECIFIED" => {}
            ("type", Value::String(name)) => drop(out.insert("type".into(), name.to_ascii_lowercase().into())),
            ("properties", Value::Object(named)) => drop(out.insert("properties".into(), each(named))),
            ("defs" | "$defs", Value::Object(named)) => drop(out.insert("$defs".into(), each(named))),
            ("ref", Value::String(path)) => {
                out.insert("$ref".into(), path.replacen("#/defs/", "#/$defs/", 1).into());
            }
            ("example", example) => drop(out.insert("examples".into(), json!([example]))),
            (name @ ("anyOf" | "oneOf" | "allOf" | "prefixItems"), Value::Array(schemas)) => {
                out.insert(name.into(), schemas.iter().map(json_schema).collect());
            }
            (name @ ("items" | "additionalProperties"), schema) => drop(out.insert(name.into(), json_schema(schema))),
            (name, value) if is_whole_number(name) => drop(out.insert(name.into(), number(value))),
            _ => drop(out.insert(key.clone(), value.clone())),
        }
    }
    if is_nullable {
        allow_null(&mut out);
    }
    if let Some(Value::Object(properties)) = out.get_mut("properties") {
        put_in_order(properties, order);
    }
    out.into()
}

fn each(named: &Map<String, Value>) -> Value {
    let schemas = named.iter().map(|(name, schema)| (name.clone(), json_schema(schema)));
    Value::Object(schemas.collect())
}

/// 64-bit numbers, which JSON made from Protobuf writes as text.
fn is_whole_number(name: &str) -> bool {
    let limits = ["Items", "Length", "Properties"];
    let limit = name.strip_prefix("min").or_else(|| name.strip_prefix("max"));
    limit.is_some_and(|limit| limits.contains(&limit))
}

fn number(value: &Value) -> Value {
    let whole = value.as_str().and_then(|text| text.parse::<i64>().ok());
    whole.map_or_else(|| value.clone(), Value::from)
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::String(name)) = schema.get("type") {
        let types = json!([name, "null"]);
        schema.insert("type".into(), types);
    } else if let Some(Value::Array(schemas)) = schema.get_mut("anyOf") {
        schemas.push(json!({"type": "null"}));
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

/// Constrained decoding writes properties in the order of the schema: the named ones come first.
fn put_in_order(properties: &mut Map<String, Value>, order: &[Value]) {
    let named = order.iter().filter_map(Value::as_str);
    let mut ordered: Map<String, Value> = Map::new();
    for name in named {
        if let Some(schema) = properties.shift_remove(name) {
            ordered.insert(name.to_owned(), schema);
        }
    }
    ordered.append(properties);
    *properties = ordered;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_lower_case_at_every_depth_and_names_are_left_alone() {
        let schema = json!({
            "type": "OBJECT",
            "properties": {
                "type": {"type": "STRING", "enum": ["TYPE_A", "B"], "description": "STRING"},
                "list_of": {"type": "ARRAY", "items": {"type": "NUMBER", "format": "float"}, "min_items": "1"},
                "any": {"any_of": [{"type": "INTEGER"}, {"type": "BOOLEAN"}]},
                "free": {"type": "TYPE_UNSPECIFIED", "additional_properties": {"type": "STRING"}},
            },
            "required": ["type"],
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["TYPE_A", "B"], "description": "STRING"},
                "list_of": {"type": "array", "items": {"type": "number", "format": "float"}, "minItems": 1},
                "any": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
                "free": {"additionalProperties": {"type": "string"}},
            },
            "required": ["type"],
        });
        assert_eq!(json_schema(&schema), expected);
        assert_eq!(json_schema(&expected), expected, "a JSON Schema stays as it is");
    }

    #[test]
    fn nullable_order_references_and_examples_have_words_in_json_schema() {
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
