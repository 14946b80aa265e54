//! Folds a stream of `chat.completion.chunk` objects to the `chat.completion` that they add up to.
//!
//! Chunks may lack choices, deltas, ids and indexes, and may repeat names; nothing that they hold is an error.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::framing::Events;
use super::super::{Assembled, json};
use super::places::Places;

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    let mut fold = Fold::default();
    for event in events {
        if event.data.trim_ascii() == b"[DONE]" {
            fold.done = true;
            break;
        }
        match json::parse(&event.data) {
            _ if event.oversize => fold.skipped_events += 1,
            Ok(Value::Object(chunk)) => fold.take_chunk(chunk, event.name == "error"),
            _ if event.name == "error" => fold.error = Some(String::from_utf8_lossy(&event.data).into()),
            _ => fold.skipped_events += 1,
        }
    }
    fold.finish()
}

/// Where a chunk's choice has what it adds; a few servers send a whole `message` instead of a `delta`.
const DELTA_KEYS: [&str; 2] = ["delta", "message"];

/// What a chunk's choice adds.
pub(crate) fn delta(choice: &Value) -> Option<&Value> {
    DELTA_KEYS
        .iter()
        .filter_map(|key| choice.get(key))
        .find(|delta| delta.is_object())
}

#[derive(Default)]
struct Fold {
    top: Map<String, Value>,
    choices: BTreeMap<i64, Choice>,
    error: Option<Value>,
    done: bool,
    skipped_events: u32,
}

impl Fold {
    fn take_chunk(&mut self, mut chunk: Map<String, Value>, is_error: bool) {
        if let Some(error) = chunk.remove("error").filter(|error| !error.is_null()) {
            self.error = Some(error);
        } else if is_error {
            self.error = Some(Value::Object(chunk));
            return;
        }
        if let Some(Value::Array(choices)) = chunk.remove("choices") {
            for (position, choice) in choices.into_iter().enumerate() {
                let index = choice.get("index").and_then(Value::as_i64).unwrap_or(position as i64);
                self.choices.entry(index).or_default().take(choice);
            }
        }
        for (key, value) in chunk {
            match key.as_str() {
                // Padding against length attacks.
                "object" | "obfuscation" | "p" => {}
                "id" | "model" | "created" => keep_first(&mut self.top, key, value),
                _ => keep_last(&mut self.top, key, value),
            }
        }
    }

    fn finish(mut self) -> Assembled {
        // Some servers never send `[DONE]`, and some send it after an answer that broke off: the finish reason decides.
        let is_finished = self
            .choices
            .values()
            .all(|choice| choice.rest.contains_key("finish_reason"));
        let partial = !is_finished || (self.choices.is_empty() && !self.done);
        if !self.top.contains_key("usage")
            && let Some(usage) = self
                .top
                .get_mut("x_groq")
                .and_then(|groq| groq.as_object_mut()?.remove("usage"))
        {
            self.top.insert("usage".into(), usage);
        }
        self.top.insert("object".into(), "chat.completion".into());
        let choices = self
            .choices
            .into_iter()
            .map(|(index, choice)| choice.finish(index))
            .collect();
        self.top.insert("choices".into(), Value::Array(choices));
        Assembled {
            body: Value::Object(self.top),
            streamed: true,
            partial,
            error: self.error,
            skipped_events: self.skipped_events,
        }
    }
}

/// One choice as far as it has come.
#[derive(Default)]
struct Choice {
    message: Map<String, Value>,
    calls: Vec<Map<String, Value>>,
    places: Places,
    rest: Map<String, Value>,
}

impl Choice {
    fn take(&mut self, choice: Value) {
        let Value::Object(mut choice) = choice else { return };
        let delta = DELTA_KEYS
            .iter()
            .find(|key| choice.get(**key).is_some_and(Value::is_object));
        if let Some(Value::Object(delta)) = delta.and_then(|key| choice.remove(*key)) {
            delta.into_iter().for_each(|(key, value)| self.take_delta(key, value));
        }
        for (key, value) in choice {
            match key.as_str() {
                "index" | "delta" | "message" => {}
                "logprobs" => append_lists(&mut self.rest, key, value),
                _ => keep_last(&mut self.rest, key, value),
            }
        }
    }

    fn take_delta(&mut self, key: String, value: Value) {
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("tool_calls", Value::Array(calls)) => calls.into_iter().for_each(|call| self.take_call(call)),
            ("function_call", Value::Object(function)) => {
                let whole = self.message.entry(key).or_insert_with(|| json!({}));
                if let Value::Object(whole) = whole {
                    take_function(whole, function);
                }
            }
            ("content", value) => {
                let content = self.message.entry(key).or_insert(Value::Null);
                append_content(content, value);
            }
            ("refusal" | "reasoning_content" | "reasoning" | "thinking", Value::String(piece)) => {
                append_text(self.message.entry(key).or_insert(Value::Null), piece);
            }
            ("audio", Value::Object(audio)) => take_audio(&mut self.message, audio),
            (_, Value::Array(items)) => extend_list(self.message.entry(key).or_insert(Value::Null), items),
            ("role", value) => keep_first(&mut self.message, key, value),
            (_, value) => keep_last(&mut self.message, key, value),
        }
    }

    fn take_call(&mut self, call: Value) {
        let Value::Object(call) = call else { return };
        let whole = self.call_of(&call);
        for (key, value) in call {
            match (key.as_str(), value) {
                ("index", _) => {}
                ("function" | "custom", Value::Object(function)) => {
                    if let Value::Object(whole) = whole.entry(key).or_insert_with(|| json!({})) {
                        take_function(whole, function);
                    }
                }
                (_, value) => keep_first(whole, key, value),
            }
        }
    }

    fn call_of(&mut self, piece: &Map<String, Value>) -> &mut Map<String, Value> {
        let place = self.places.of(piece);
        if place == self.calls.len() {
            self.calls.push(Map::new());
        }
        &mut self.calls[place]
    }

    fn finish(mut self, index: i64) -> Value {
        let mut message = Map::new();
        message.insert(
            "role".into(),
            self.message.remove("role").unwrap_or_else(|| "assistant".into()),
        );
        message.insert("content".into(), self.message.remove("content").unwrap_or_default());
        message.append(&mut self.message);
        if !self.calls.is_empty() {
            let calls = self.calls.into_iter().map(Value::Object).collect();
            message.insert("tool_calls".into(), Value::Array(calls));
        }
        let mut choice = Map::new();
        choice.insert("index".into(), index.into());
        choice.insert("message".into(), Value::Object(message));
        choice.insert(
            "finish_reason".into(),
            self.rest.remove("finish_reason").unwrap_or_default(),
        );
        choice.append(&mut self.rest);
        Value::Object(choice)
    }
}

/// The name comes once, though some servers repeat it; arguments come in pieces.
fn take_function(whole: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        match (key.as_str(), value) {
            ("arguments" | "input", Value::String(piece)) => {
                append_text(whole.entry(key).or_insert(Value::Null), piece)
            }
            (_, value) => keep_first(whole, key, value),
        }
    }
}

fn take_audio(message: &mut Map<String, Value>, piece: Map<String, Value>) {
    let Value::Object(audio) = message.entry("audio").or_insert_with(|| json!({})) else {
        return;
    };
    for (key, value) in piece {
        match (key.as_str(), value) {
            ("data" | "transcript", Value::String(piece)) => {
                append_text(audio.entry(key).or_insert(Value::Null), piece)
            }
            (_, value) => keep_last(audio, key, value),
        }
    }
}

/// Content is text, or, in Mistral's dialect, parts; pieces of one kind grow together.
fn append_content(content: &mut Value, piece: Value) {
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

fn append_thought(thoughts: &mut Vec<Value>, piece: &Value) {
    let growing = thoughts.last_mut().and_then(|last| last.get_mut("text"));
    match (growing, json::text(piece, "text")) {
        (Some(Value::String(text)), Some(more)) => text.push_str(more),
        _ => thoughts.push(piece.clone()),
    }
}

fn append_text(whole: &mut Value, piece: String) {
    match whole {
        Value::String(text) => text.push_str(&piece),
        whole => *whole = Value::String(piece),
    }
}

fn extend_list(whole: &mut Value, items: Vec<Value>) {
    match whole {
        Value::Array(whole) => whole.extend(items),
        whole => *whole = Value::Array(items),
    }
}

/// An object of lists (`logprobs`), each of which grows.
fn append_lists(map: &mut Map<String, Value>, key: String, value: Value) {
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

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        _ => false,
    }
}

/// For fields that repeat: the first value that says something stays.
fn keep_first(map: &mut Map<String, Value>, key: String, value: Value) {
    if map.get(&key).is_none_or(says_nothing) && !value.is_null() {
        map.insert(key, value);
    }
}

/// For fields that are set when known: the last value stays, but null and empty text don't unset one.
fn keep_last(map: &mut Map<String, Value>, key: String, value: Value) {
    let unsets = value.is_null() || (value.as_str() == Some("") && map.contains_key(&key));
    if !unsets {
        map.insert(key, value);
    }
}
