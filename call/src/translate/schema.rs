//! A JSON schema as an API takes one for an answer, where it takes only some keywords: the others are told in words.
//!
//! What is told in words is checked when the answer has come, and a closed object fits the open one too: the translation
//! asks for no less than was asked.

use serde_json::{Map, Value};

use super::Refusal;
use super::fields::inexpressible;

/// Keywords of no schema below them that each API knows.
const PLAIN: [&str; 9] = [
    "type", "enum", "const", "required", "$ref", "title", "default", "$schema", "$id",
];
/// The formats of text that Cohere knows.
const FORMATS: [&str; 4] = ["date-time", "uuid", "date", "time"];

/// The part of JSON Schema that an API takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Subset {
    /// Anthropic's, and Bedrock's: objects are closed.
    Closed,
    /// Cohere's: an object at the top, a required field in each, and no alternatives.
    Required,
}

impl Subset {
    /// The schema of a request's answer, within the subset.
    ///
    /// # Errors
    /// Where it can't be said there.
    pub(super) fn of(self, schema: &Value) -> Result<Value, Refusal> {
        let at = "response_format.json_schema.schema";
        if self == Subset::Required && schema.get("type").is_none_or(|kind| kind != "object") {
            return Err(inexpressible(at, "an answer that is no object"));
        }
        self.within(schema, at)
    }

    fn within(self, schema: &Value, at: &str) -> Result<Value, Refusal> {
        let Some(given) = schema.as_object() else {
            // `true` and `false`.
            return Err(inexpressible(at, "a schema that is no object"));
        };
        let mut said = Map::new();
        let mut untold = Map::new();
        for (key, value) in given {
            let below = || format!("{at}.{key}");
            match (key.as_str(), value) {
                ("properties" | "$defs" | "definitions", Value::Object(schemas)) => {
                    let schemas = schemas.iter().map(|(name, schema)| {
                        let at = format!("{at}.{key}.{name}");
                        self.within(schema, &at).map(|schema| (name.clone(), schema))
                    });
                    said.insert(key.clone(), Value::Object(schemas.collect::<Result<_, _>>()?));
                }
                ("items", Value::Object(_)) => {
                    said.insert(key.clone(), self.within(value, &below())?);
                }
                ("anyOf" | "oneOf" | "allOf" | "not", _) if self == Subset::Required => {
                    return Err(inexpressible(below(), "alternatives"));
                }
                ("anyOf" | "oneOf" | "allOf", Value::Array(schemas)) => {
                    let schemas = schemas.iter().map(|schema| self.within(schema, &below()));
                    let key = if key == "allOf" { "allOf" } else { "anyOf" };
                    said.insert(key.into(), schemas.collect::<Result<Vec<_>, _>>()?.into());
                }
                ("additionalProperties", value) => {
                    let is_open = !matches!(value, Value::Bool(false)) && !is_object_of_known(given);
                    if is_open || value.is_object() {
                        return Err(inexpressible(below(), "an object of any keys"));
                    }
                }
                ("description", Value::String(_)) => {
                    said.insert(key.clone(), value.clone());
                }
                ("format", value) if self == Subset::Closed || FORMATS.iter().any(|known| value == known) => {
                    said.insert(key.clone(), value.clone());
                }
                (key, value) if PLAIN.contains(&key) => {
                    said.insert(key.into(), value.clone());
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
            let required = given.get("required").and_then(Value::as_array);
            match self {
                Subset::Closed => drop(said.insert("additionalProperties".into(), false.into())),
                Subset::Required if required.is_none_or(Vec::is_empty) => {
                    return Err(inexpressible(at, "an object without a required field"));
                }
                Subset::Required => {}
            }
        }
        if !untold.is_empty() {
            let words = said.get("description").and_then(Value::as_str).unwrap_or_default();
            let words = format!("{words} {}", Value::Object(untold));
            said.insert("description".into(), words.trim_start().into());
        }
        Ok(Value::Object(said))
    }
}

fn is_object(schema: &Map<String, Value>) -> bool {
    schema.get("type").is_some_and(|kind| kind == "object") || schema.contains_key("properties")
}

fn is_object_of_known(schema: &Map<String, Value>) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.is_some_and(|properties| !properties.is_empty())
}
