//! JSON values compared field by field, in the light of their schema.
//!
//! Pure. Looks up nothing outside the schema at hand, and judges no validity: a text `"2"` where the schema says integer
//! means the same as `2` here, and is a fault there.

use super::composed;
use serde_json::{Map, Number, Value};

/// References followed from one place of a schema.
const MAX_REFERENCES: usize = 8;
/// Levels of a value that are looked at; deeper ones are compared whole.
const MAX_DEPTH: usize = 64;
/// Pairs of fields up to which two lists are aligned; longer ones are compared place by place.
const ALIGNED_PAIRS: usize = 1_000_000;
/// How far two numbers may lie apart, relative to the larger.
const SAME_NUMBER: f64 = 1e-9;

/// Fields that two values have, and share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FieldCounts {
    /// Fields of the recorded value.
    pub recorded: usize,
    /// Fields of the answer.
    pub answered: usize,
    /// Fields that are the same in both.
    pub common: usize,
}

impl FieldCounts {
    /// Share of the answer's fields that are right; 1 where it has none and none was recorded.
    pub fn precision(&self) -> f64 {
        self.share(self.answered)
    }

    /// Share of the recorded fields that the answer has.
    pub fn recall(&self) -> f64 {
        self.share(self.recorded)
    }

    /// Harmonic mean of both, 0 to 1.
    pub fn f1(&self) -> f64 {
        match self.recorded + self.answered {
            0 => 1.0,
            total => 2.0 * self.common as f64 / total as f64,
        }
    }

    fn share(&self, of: usize) -> f64 {
        match (of, self.recorded + self.answered) {
            (_, 0) => 1.0,
            (0, _) => 0.0,
            (of, _) => self.common as f64 / of as f64,
        }
    }
}

/// Counts the fields of two values that [`normal`] was applied to.
pub(super) fn compare(recorded: &Value, answer: &Value) -> FieldCounts {
    FieldCounts {
        recorded: size(recorded),
        answered: size(answer),
        common: common(recorded, answer),
    }
}

/// A value as it is compared: scalars in the type that the schema names, and without optional fields that hold their
/// default, null, or an object with nothing in it.
pub(super) fn normal(value: &Value, schema: &Value) -> Value {
    normal_at(value, schema, schema, MAX_DEPTH)
}

fn normal_at(value: &Value, schema: &Value, root: &Value, depth: usize) -> Value {
    if depth == 0 {
        return value.clone();
    }
    let schema = resolved(schema, root);
    let value = &in_type(value, schema);
    match value {
        Value::Object(fields) => {
            let required = |name: &str| {
                let names = schema["required"].as_array();
                names.is_some_and(|names| names.iter().any(|required| required == name))
            };
            let kept = fields.iter().filter_map(|(name, field)| {
                let known = schema["properties"].get(name);
                let of_field = known.unwrap_or(&schema["additionalProperties"]);
                let field = normal_at(field, of_field, root, depth - 1);
                let default = known.and_then(|known| known.get("default").or(resolved(known, root).get("default")));
                let is_empty = field.as_object().is_some_and(Map::is_empty);
                let says_nothing = field.is_null() || is_empty || default.is_some_and(|default| same(default, &field));
                let left_out = known.is_some() && !required(name) && says_nothing;
                (!left_out).then(|| (name.clone(), field))
            });
            Value::Object(kept.collect::<Map<String, Value>>())
        }
        Value::Array(items) => {
            let of_item = &schema["items"];
            Value::Array(
                items
                    .iter()
                    .map(|item| normal_at(item, of_item, root, depth - 1))
                    .collect(),
            )
        }
        scalar => scalar.clone(),
    }
}

/// The schema that a reference means, or the one alternative of several that is not null.
fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..MAX_REFERENCES {
        if let Some(pointer) = schema["$ref"]
            .as_str()
            .and_then(|reference| reference.strip_prefix('#'))
        {
            match root.pointer(pointer) {
                Some(found) => schema = found,
                None => return &Value::Null,
            }
            continue;
        }
        let alternatives = ["anyOf", "oneOf", "allOf"]
            .iter()
            .find_map(|key| schema[*key].as_array());
        let mut real = alternatives.into_iter().flatten().filter(|one| one["type"] != "null");
        match (real.next(), real.next()) {
            (Some(only), None) => schema = only,
            _ => return schema,
        }
    }
    schema
}

/// The value in the one type that the schema names, where nothing is lost by it.
fn in_type(value: &Value, schema: &Value) -> Value {
    let named = match &schema["type"] {
        Value::String(name) => Some(name.as_str()),
        Value::Array(names) => {
            let mut real = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            real.next().filter(|_| real.next().is_none())
        }
        _ => None,
    };
    let read = |text: &str| serde_json::from_str::<Value>(text.trim()).ok();
    let converted = match (named, value) {
        (Some("integer" | "number"), Value::String(text)) => read(text).filter(Value::is_number),
        (Some("boolean"), Value::String(text)) => read(&text.to_lowercase()).filter(Value::is_boolean),
        (Some("array"), Value::String(text)) => read(text).filter(Value::is_array),
        (Some("object"), Value::String(text)) => read(text).filter(Value::is_object),
        (Some("string"), Value::Number(_) | Value::Bool(_)) => Some(Value::String(value.to_string())),
        _ => None,
    };
    converted.unwrap_or_else(|| value.clone())
}

/// How many fields a value has; an empty object or list is one of its own.
pub(super) fn size(value: &Value) -> usize {
    match value {
        Value::Object(fields) if !fields.is_empty() => fields.values().map(size).sum(),
        Value::Array(items) if !items.is_empty() => items.iter().map(size).sum(),
        _ => 1,
    }
}

/// How many fields both values hold in the same place. In lists the order counts, but what was inserted or left out
/// does not move what comes after it.
fn common(left: &Value, right: &Value) -> usize {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) if !left.is_empty() && !right.is_empty() => {
            let shared = left.iter().filter_map(|(name, field)| Some((field, right.get(name)?)));
            shared.map(|(left, right)| common(left, right)).sum()
        }
        (Value::Array(left), Value::Array(right)) if !left.is_empty() && !right.is_empty() => {
            let fields = |items: &[Value]| items.iter().map(size).sum::<usize>();
            if fields(left).saturating_mul(fields(right)) > ALIGNED_PAIRS {
                return left.iter().zip(right).map(|(left, right)| common(left, right)).sum();
            }
            aligned(left, right)
        }
        _ => usize::from(same(left, right)),
    }
}

/// The most common fields that an alignment of two lists, in order, can have.
fn aligned(left: &[Value], right: &[Value]) -> usize {
    let mut best = vec![0; right.len() + 1];
    for item in left {
        let mut diagonal = 0;
        for (place, other) in right.iter().enumerate() {
            let above = best[place + 1];
            let matched = diagonal + common(item, other);
            best[place + 1] = above.max(best[place]).max(matched);
            diagonal = above;
        }
    }
    best[right.len()]
}

/// Whether two values mean the same: numbers by value, texts without regard to spaces, texts that are JSON as such.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => same_number(left, right),
        (Value::String(left), Value::String(right)) => same_words(left, right) || same_json(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let has = |(name, field): (&String, &Value)| right.get(name).is_some_and(|other| same(field, other));
            left.len() == right.len() && left.iter().all(has)
        }
        _ => left == right,
    }
}

fn same_words(left: &str, right: &str) -> bool {
    let (left, right) = (composed(left), composed(right));
    left.split_whitespace().eq(right.split_whitespace())
}

fn same_number(left: &Number, right: &Number) -> bool {
    if !left.is_f64() && !right.is_f64() {
        return left == right;
    }
    let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) else {
        return false;
    };
    // Whole numbers may be names of things: next to each other they are not the same.
    let are_whole = left.fract() == 0.0 && right.fract() == 0.0;
    left == right || !are_whole && (left - right).abs() <= SAME_NUMBER * left.abs().max(right.abs())
}

fn same_json(left: &str, right: &str) -> bool {
    let read = |text: &str| {
        let value = serde_json::from_str::<Value>(text).ok()?;
        (value.is_object() || value.is_array()).then_some(value)
    };
    text_may_be_json(left)
        && text_may_be_json(right)
        && read(left)
            .zip(read(right))
            .is_some_and(|(left, right)| same(&left, &right))
}

fn text_may_be_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}
