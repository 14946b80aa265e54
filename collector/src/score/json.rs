//! JSON answers: found in text, flattened into fields.

use serde_json::{Number, Value};
use std::collections::HashMap;
use understudy_call::call::ToolCall;

/// The JSON object or array that a text is, bare or in one Markdown fence.
pub(super) fn json_of(text: &str) -> Option<Value> {
    let text = text.trim();
    let inside = fenced(text).unwrap_or(text);
    let value: Value = serde_json::from_str(inside).ok()?;
    (value.is_object() || value.is_array()).then_some(value)
}

/// Whether a text is one Markdown fence.
pub(super) fn is_fenced(text: &str) -> bool {
    fenced(text.trim()).is_some()
}

fn fenced(text: &str) -> Option<&str> {
    let inside = text.strip_prefix("```")?.strip_suffix("```")?;
    let (language, body) = inside.split_once('\n')?;
    language
        .trim()
        .chars()
        .all(|c| c.is_ascii_alphanumeric())
        .then_some(body)
}

/// A value's fields: how often each path holds each scalar.
#[derive(Default)]
pub(super) struct Leaves {
    /// Name of the tool; empty for an answer's text.
    pub(super) name: String,
    counts: HashMap<(String, String), usize>,
    total: usize,
}

impl Leaves {
    /// How many fields there are; a tool's name counts as one.
    pub(super) fn len(&self) -> usize {
        self.total + usize::from(!self.name.is_empty())
    }

    /// How many fields both have; none where the tools differ.
    pub(super) fn common(&self, other: &Leaves) -> usize {
        if self.name != other.name {
            return 0;
        }
        let shared = |(leaf, count): (&(String, String), &usize)| other.counts.get(leaf).map_or(0, |o| *count.min(o));
        self.counts.iter().map(shared).sum::<usize>() + usize::from(!self.name.is_empty())
    }

    fn add(&mut self, path: String, scalar: String) {
        *self.counts.entry((path, scalar)).or_default() += 1;
        self.total += 1;
    }
}

/// F1 over the fields of two values, 0 to 1.
pub(super) fn field_f1(recorded: &Leaves, answer: &Leaves) -> f64 {
    let total = recorded.len() + answer.len();
    if total == 0 {
        1.0
    } else {
        2.0 * recorded.common(answer) as f64 / total as f64
    }
}

/// A value flattened; an empty object or array is a field of its own.
pub(super) fn leaves(value: &Value) -> Leaves {
    let mut leaves = Leaves::default();
    let mut open = vec![(String::new(), value)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                open.extend(
                    fields
                        .iter()
                        .map(|(name, field)| (format!("{path}/{}", escaped(name)), field)),
                );
            }
            Value::Array(items) if !items.is_empty() => {
                open.extend(
                    items
                        .iter()
                        .enumerate()
                        .map(|(index, item)| (format!("{path}/{index}"), item)),
                );
            }
            scalar => leaves.add(path, normal(scalar)),
        }
    }
    leaves
}

/// A tool call flattened: its name, and each field of its arguments.
pub(super) fn call_leaves(call: &ToolCall) -> Leaves {
    let mut flat = match serde_json::from_str::<Value>(&call.arguments) {
        Ok(Value::Object(fields)) if fields.is_empty() => Leaves::default(),
        Ok(value) => leaves(&value),
        Err(_) => leaves(&Value::String(call.arguments.clone())),
    };
    flat.name.clone_from(&call.name);
    flat
}

/// A scalar as it is compared: `1.0` is `1`, and a text's spaces don't count. Types stay apart.
fn normal(scalar: &Value) -> String {
    match scalar {
        Value::String(text) => format!("s{}", text.split_whitespace().collect::<Vec<_>>().join(" ")),
        Value::Number(number) => normal_number(number),
        other => other.to_string(),
    }
}

fn normal_number(number: &Number) -> String {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => (float as i64).to_string(),
        _ => number.to_string(),
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
