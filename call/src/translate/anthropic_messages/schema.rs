//! A JSON schema as the API takes one for an answer: objects are closed, and keywords that it doesn't know are told in words.
//!
//! A closed object fits the open one too, and what is told in words is checked when the answer has come: the translation
//! asks for no less than was asked.

use serde_json::{Map, Value};

use super::super::Refusal;
use super::super::fields::inexpressible;

/// Keywords of no schema below them that the API knows.
const PLAIN: [&str; 10] = [
    "type", "enum", "const", "required", "$ref", "title", "default", "format", "$schema", "$id",
];

/// The schema of an answer, closed.
pub(super) fn closed(schema: &Value, at: &str) -> Result<Value, Refusal> {
    let Some(given) = schema.as_object() else {
        // `true` and `false`.
        return Err(inexpressible(at, "a schema that is no object"));
    };
    let mut closed = Map::new();
    let mut untold = Map::new();
    for (key, value) in given {
        let below = || format!("{at}.{key}");
        match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                let schemas = schemas.iter().map(|(name, schema)| {
                    let at = format!("{at}.{key}.{name}");
                    self::closed(schema, &at).map(|schema| (name.clone(), schema))
                });
                closed.insert(key.clone(), Value::Object(schemas.collect::<Result<_, _>>()?));
            }
            ("items", Value::Object(_)) => {
                closed.insert(key.clone(), self::closed(value, &below())?);
            }
            ("anyOf" | "oneOf" | "allOf", Value::Array(schemas)) => {
                let schemas = schemas.iter().map(|schema| self::closed(schema, &below()));
                let key = if key == "allOf" { "allOf" } else { "anyOf" };
                closed.insert(key.into(), schemas.collect::<Result<Vec<_>, _>>()?.into());
            }
            ("additionalProperties", value) => {
                if !matches!(value, Value::Bool(false)) && !is_object_of_known(given) {
                    return Err(inexpressible(below(), "an object of any keys"));
                }
                if matches!(value, Value::Object(_)) {
                    return Err(inexpressible(below(), "an object of any keys"));
                }
            }
            ("description", Value::String(_)) => {
                closed.insert(key.clone(), value.clone());
            }
            (key, value) if PLAIN.contains(&key) => {
                closed.insert(key.into(), value.clone());
            }
            (key, value) => {
                untold.insert(key.into(), value.clone());
            }
        }
    }
    if is_object(given) {
        if !is_object_of_known(given) && given.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err(inexpressible(at, "an object of any keys"));
        }
        closed.insert("additionalProperties".into(), false.into());
    }
    if !untold.is_empty() {
        let said = closed.get("description").and_then(Value::as_str).unwrap_or_default();
        let said = format!("{said} {}", Value::Object(untold));
        closed.insert("description".into(), said.trim_start().into());
    }
    Ok(Value::Object(closed))
}

fn is_object(schema: &Map<String, Value>) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object") || schema.contains_key("properties")
}

fn is_object_of_known(schema: &Map<String, Value>) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_some_and(|properties| !properties.is_empty())
}
