//! Folds Cohere's streams to the answer that they add up to: version 2's events, and version 1's lines, whose last one
//! repeats the whole answer.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::Assembled;
use super::super::event::Said;
use super::super::framing::Events;

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    let mut fold = Fold::default();
    for event in events {
        match event.said() {
            Said::Object(data) => fold.take_event(&event.name, data),
            Said::Error(error) => fold.error = Some(error),
            // What follows the last event of version 2.
            Said::Done => {}
            Said::Unreadable => fold.skipped_events += 1,
        }
    }
    fold.finish()
}

#[derive(Default)]
struct Fold {
    top: Map<String, Value>,
    message: Map<String, Value>,
    contents: BTreeMap<i64, Map<String, Value>>,
    calls: BTreeMap<i64, Map<String, Value>>,
    /// The whole answer, as version 1 repeats it.
    repeated: Option<Map<String, Value>>,
    ended: bool,
    error: Option<Value>,
    skipped_events: u32,
}

impl Fold {
    fn take_event(&mut self, name: &str, mut data: Map<String, Value>) {
        if let Some(error) = data.remove("error").filter(|error| !error.is_null()) {
            self.error = Some(error);
        }
        let kind = ["type", "event_type"]
            .iter()
            .find_map(|key| data.get(*key).and_then(Value::as_str));
        let kind = kind.unwrap_or(name).to_owned();
        // Some servers leave the names of version 2's events to the event.
        let is_v2 = data.contains_key("type") || (!name.is_empty() && !data.contains_key("event_type"));
        match kind.as_str() {
            "error" => self.error = Some(Value::Object(data)),
            _ if is_v2 => self.take_v2(&kind, data),
            // An error's body in the middle of a stream.
            "" if data.get("message").is_some_and(Value::is_string) => self.error = Some(Value::Object(data)),
            _ => self.take_v1(&kind, data),
        }
    }

    fn take_v2(&mut self, kind: &str, mut data: Map<String, Value>) {
        let index = data.get("index").and_then(Value::as_i64).unwrap_or(0);
        let Some(Value::Object(mut delta)) = data.remove("delta") else {
            self.ended |= kind == "message-end";
            return;
        };
        if let Some(Value::Object(message)) = delta.remove("message") {
            for (key, value) in message {
                self.take_message_field(index, key, value);
            }
        }
        match kind {
            "message-start" => set(&mut self.top, "id", data.remove("id")),
            "message-end" => {
                self.ended = true;
                let error = delta.remove("error").filter(|error| !error.is_null());
                self.error = error.or(self.error.take());
                for (key, value) in delta {
                    set(&mut self.top, &key, Some(value));
                }
            }
            "content-delta" => {
                if let Some(logprobs) = data.remove("logprobs").filter(|logprobs| !logprobs.is_null()) {
                    push_all(&mut self.top, "logprobs", logprobs);
                }
            }
            _ => {}
        }
    }

    fn take_message_field(&mut self, index: i64, key: String, value: Value) {
        match (key.as_str(), value) {
            ("content", Value::Object(piece)) => grow(self.contents.entry(index).or_default(), piece),
            ("tool_calls", Value::Object(piece)) => grow(self.calls.entry(index).or_default(), piece),
            ("tool_plan", Value::String(piece)) if !piece.is_empty() => append(&mut self.message, "tool_plan", &piece),
            ("citations", citations) => push_all(&mut self.message, "citations", citations),
            // The first event has them all, empty.
            (_, Value::Array(items)) if items.is_empty() => {}
            (_, Value::String(piece)) if piece.is_empty() => {}
            (key, value) => set(&mut self.message, key, Some(value)),
        }
    }

    fn take_v1(&mut self, kind: &str, mut data: Map<String, Value>) {
        self.ended |= data.remove("is_finished") == Some(Value::Bool(true)) || kind == "stream-end";
        data.remove("event_type");
        if let Some(Value::Object(response)) = data.remove("response") {
            self.repeated = Some(response);
        }
        if let Some(Value::Object(mut piece)) = data.remove("tool_call_delta") {
            let index = piece.remove("index").and_then(|index| index.as_i64()).unwrap_or(0);
            grow(self.calls.entry(index).or_default(), piece);
        }
        let is_whole = kind == "tool-calls-generation";
        for (key, value) in data {
            match (key.as_str(), value) {
                ("text", Value::String(piece)) if !is_whole => append(&mut self.top, "text", &piece),
                ("index", _) => {}
                ("citations" | "documents" | "search_results" | "search_queries", Value::Array(items)) => {
                    push_all(&mut self.top, &key, Value::Array(items));
                }
                (_, value) => set(&mut self.top, &key, Some(value)),
            }
        }
    }

    fn finish(mut self) -> Assembled {
        let calls: Vec<Value> = self.calls.into_values().map(Value::Object).collect();
        let body = if let Some(mut repeated) = self.repeated {
            let finish_reason = self.top.remove("finish_reason");
            if !repeated.contains_key("finish_reason") {
                set(&mut repeated, "finish_reason", finish_reason);
            }
            repeated
        } else if self.message.is_empty() && self.contents.is_empty() {
            // Version 1, cut; its calls came in pieces, or whole after them.
            if !calls.is_empty() && !self.top.contains_key("tool_calls") {
                self.top.insert("tool_calls".into(), Value::Array(calls));
            }
            self.top
        } else {
            let contents: Vec<Value> = self.contents.into_values().map(with_kind).collect();
            self.message.entry("role").or_insert_with(|| "assistant".into());
            for (key, values) in [("content", contents), ("tool_calls", calls)] {
                if !values.is_empty() {
                    self.message.insert(key.into(), Value::Array(values));
                }
            }
            self.top.insert("message".into(), Value::Object(self.message));
            self.top
        };
        let mut assembled = Assembled {
            body: Value::Object(body),
            streamed: true,
            partial: !self.ended,
            error: self.error,
            skipped_events: self.skipped_events,
        };
        if let (Value::Object(body), Some(error)) = (&mut assembled.body, &assembled.error)
            && body.is_empty()
        {
            body.insert("error".into(), error.clone());
        }
        assembled
    }
}

/// The kind of a content whose start was lost.
fn with_kind(mut content: Map<String, Value>) -> Value {
    if !content.contains_key("type") {
        let kind = ["thinking", "text"]
            .into_iter()
            .find(|kind| content.contains_key(*kind));
        content.insert("type".into(), kind.unwrap_or("text").into());
    }
    Value::Object(content)
}

/// Text grows, also that of a function's arguments; all else is set.
fn grow(whole: &mut Map<String, Value>, piece: Map<String, Value>) {
    for (key, value) in piece {
        match (key.as_str(), value) {
            ("text" | "thinking" | "arguments" | "parameters", Value::String(piece)) => append(whole, &key, &piece),
            ("function", Value::Object(piece)) => {
                if let Value::Object(function) = whole.entry(key).or_insert_with(|| json!({})) {
                    for (key, value) in piece {
                        match value {
                            Value::String(piece) if key == "arguments" => append(function, &key, &piece),
                            value => set(function, &key, Some(value)),
                        }
                    }
                }
            }
            (_, value) => set(whole, &key, Some(value)),
        }
    }
}

fn append(whole: &mut Map<String, Value>, key: &str, piece: &str) {
    match whole.get_mut(key) {
        Some(Value::String(text)) => text.push_str(piece),
        _ => {
            whole.insert(key.into(), piece.into());
        }
    }
}

/// Adds a value, or each value of a list, to the list under `key`.
fn push_all(whole: &mut Map<String, Value>, key: &str, value: Value) {
    let items = match value {
        Value::Array(items) => items,
        item => vec![item],
    };
    match whole.get_mut(key) {
        Some(Value::Array(list)) => list.extend(items),
        _ if items.is_empty() => {}
        _ => {
            whole.insert(key.into(), Value::Array(items));
        }
    }
}

/// Sets a field that says something.
fn set(whole: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        whole.insert(key.into(), value);
    }
}
