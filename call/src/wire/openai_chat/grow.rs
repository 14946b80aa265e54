//! How the values of a stream's pieces grow into whole ones.

use serde_json::{Map, Value, json};

use super::super::json;

/// Content is text, or, in Mistral's dialect, parts; pieces of one kind grow together.
pub(in super::super) fn append_content(content: &mut Value, piece: Value) {
    match (&mut *content, piece) {
        (Value::Null | Value::String(_), Value::String(piece)) => append_text(content, piece),
        (Value::Array(_), Value::String(piece)) if piece.is_empty() => {}
        (Value::Array(parts), Value::String(piece)) => append_part(parts, json!({"type": "text", "text": piece})),
        (Value::Array(parts), Value::Array(pieces)) => pieces.into_iter().for_each(|piece| append_part(parts, piece)),
        (Value::String(text), Value::Array(pieces)) if !text.is_empty() => {
            let mut parts = vec![json!({"type": "text", "text": std::mem::take(text)})];
            pieces.into_iter().for_each(|piece| append_part(&mut parts, piece));
            *content = Value::Array(parts);
        }
        (Value::Null | Value::String(_), Value::Array(pieces)) => {
            let mut parts = Vec::new();
            pieces.into_iter().for_each(|piece| append_part(&mut parts, piece));
            *content = Value::Array(parts);
        }
        _ => {}
    }
}

/// A text part grows the text part before it, a thinking part the thinking part before it.
fn append_part(parts: &mut Vec<Value>, piece: Value) {
    if !parts.last_mut().is_some_and(|last| grow_part(last, &piece)) {
        parts.push(piece);
    }
}

/// Thinking parts hold text parts: one level, so the depth is bounded.
fn grow_part(part: &mut Value, piece: &Value) -> bool {
    let kind = json::text(piece, "type").unwrap_or_default();
    if json::text(part, "type") != Some(kind) || !matches!(kind, "text" | "thinking") {
        return false;
    }
    match (part.get_mut(kind), piece.get(kind)) {
        (Some(Value::String(text)), Some(Value::String(more))) => text.push_str(more),
        (Some(Value::Array(thoughts)), Some(Value::Array(more))) => {
            more.iter().for_each(|thought| append_thought(thoughts, thought));
        }
        _ => return false,
    }
    true
}

/// OpenRouter's details come in pieces; those of one kind and index grow together, encrypted ones are whole.
pub(in super::super) fn append_detail(details: &mut Vec<Value>, piece: Value) {
    let same = |last: &Value, key: &str| last.get(key) == piece.get(key);
    let grows =
        |last: &&mut Value| ["type", "index", "id"].iter().all(|key| same(last, key)) && piece.get("data").is_none();
    match (details.last_mut().filter(grows), piece) {
        (Some(Value::Object(last)), Value::Object(piece)) => {
            for (key, value) in piece {
                match (key.as_str(), value) {
                    ("text" | "summary", Value::String(piece)) => {
                        append_text(last.entry(key).or_insert(Value::Null), piece);
                    }
                    (_, value) => keep_last(last, key, value),
                }
            }
        }
        (_, piece) => details.push(piece),
    }
}

fn append_thought(thoughts: &mut Vec<Value>, piece: &Value) {
    let growing = thoughts.last_mut().and_then(|last| last.get_mut("text"));
    match (growing, json::text(piece, "text")) {
        (Some(Value::String(text)), Some(more)) => text.push_str(more),
        _ => thoughts.push(piece.clone()),
    }
}

/// Text that grows, whatever was there before it.
pub(in super::super) fn append_text(whole: &mut Value, piece: String) {
    match whole {
        Value::String(text) => text.push_str(&piece),
        whole => *whole = Value::String(piece),
    }
}

/// A list that grows, whatever was there before it.
pub(in super::super) fn extend_list(whole: &mut Value, items: Vec<Value>) {
    match whole {
        Value::Array(whole) => whole.extend(items),
        whole => *whole = Value::Array(items),
    }
}

/// An object of lists (`logprobs`), each of which grows.
pub(in super::super) fn append_lists(map: &mut Map<String, Value>, key: String, value: Value) {
    let Value::Object(piece) = value else { return };
    let Value::Object(whole) = map.entry(key).or_insert_with(|| json!({})) else {
        return;
    };
    for (key, value) in piece {
        match value {
            Value::Array(items) => extend_list(whole.entry(key).or_insert(Value::Null), items),
            value => keep_last(whole, key, value),
        }
    }
}

/// Null, empty text and 0.
pub(in super::super) fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

/// For fields that repeat: the first value that says something stays.
pub(in super::super) fn keep_first(map: &mut Map<String, Value>, key: String, value: Value) {
    if map.get(&key).is_none_or(says_nothing) && !value.is_null() {
        map.insert(key, value);
    }
}

/// For fields that are set when known: the last value stays, but null and empty text don't unset one.
pub(in super::super) fn keep_last(map: &mut Map<String, Value>, key: String, value: Value) {
    let unsets = value.is_null() || (value.as_str() == Some("") && map.contains_key(&key));
    if !unsets {
        map.insert(key, value);
    }
}
