//! Folds a stream of Converse events to the answer that they add up to.
//!
//! Events and deltas of unknown kinds are kept where they say where they belong, and are never an error.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::framing::{Event, Events};
use super::super::{Assembled, json};

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    let mut fold = Fold::default();
    for event in events {
        match json::parse(&event.data) {
            _ if event.oversize => fold.skipped_events += 1,
            _ if let Some(exception) = event.exception() => fold.error = Some(exception),
            Ok(Value::Object(data)) => fold.take_event(&event.name, data),
            _ => fold.skipped_events += 1,
        }
    }
    fold.finish()
}

/// Whether a stream's event carries text, reasoning or a part of a tool call.
pub(in super::super) fn carries_output(event: &Event<'_>) -> bool {
    json::parse(&event.data).is_ok_and(|data| has_output(&event.name, &data))
}

/// The same of an event's name and data.
pub(in super::super) fn has_output(name: &str, data: &Value) -> bool {
    let delta = data.get("delta").unwrap_or(&Value::Null);
    match name {
        // A tool's name is output too.
        "contentBlockStart" => data.pointer("/start/toolUse").is_some(),
        "contentBlockDelta" => {
            let reasoning = delta.get("reasoningContent");
            json::text(delta, "text").is_some()
                || reasoning.is_some_and(|reasoning| json::text(reasoning, "text").is_some())
                || delta
                    .get("toolUse")
                    .is_some_and(|tool_use| json::text(tool_use, "input").is_some())
        }
        _ => false,
    }
}

/// An answer as far as it has come.
#[derive(Default)]
pub(in super::super) struct Fold {
    top: Map<String, Value>,
    role: Option<Value>,
    blocks: BTreeMap<i64, Block>,
    stopped: bool,
    error: Option<Value>,
    skipped_events: u32,
}

/// A content block as far as it has come, and the JSON text of its tool's input.
#[derive(Default)]
struct Block {
    value: Map<String, Value>,
    input: String,
}

impl Fold {
    /// Takes the event of a name.
    pub(in super::super) fn take_event(&mut self, name: &str, mut data: Map<String, Value>) {
        // Padding against length attacks.
        data.remove("p");
        let index = data.get("contentBlockIndex").and_then(Value::as_i64).unwrap_or(0);
        match name {
            "messageStart" => self.role = data.remove("role"),
            "contentBlockStart" => {
                if let Some(Value::Object(start)) = data.remove("start") {
                    self.blocks.entry(index).or_default().take_start(start);
                }
            }
            "contentBlockDelta" => {
                if let Some(Value::Object(delta)) = data.remove("delta") {
                    self.blocks.entry(index).or_default().take_delta(delta);
                }
            }
            "contentBlockStop" => {}
            "messageStop" => {
                self.stopped = true;
                self.top.extend(data);
            }
            "metadata" => self.top.extend(data),
            _ => {}
        }
    }

    /// The answer in the API's non-streamed form.
    pub(in super::super) fn finish(mut self) -> Assembled {
        let blocks: Vec<Value> = self.blocks.into_values().map(Block::finish).collect();
        let role = self.role.unwrap_or_else(|| "assistant".into());
        let message = json!({"role": role, "content": blocks});
        self.top.insert("output".into(), json!({ "message": message }));
        Assembled {
            body: Value::Object(self.top),
            streamed: true,
            partial: !self.stopped,
            error: self.error,
            skipped_events: self.skipped_events,
        }
    }
}

impl Block {
    fn take_start(&mut self, start: Map<String, Value>) {
        for (key, value) in start {
            self.value.insert(key, value);
        }
    }

    fn take_delta(&mut self, delta: Map<String, Value>) {
        for (key, value) in delta {
            match (key.as_str(), value) {
                ("toolUse", Value::Object(mut tool_use)) => {
                    if let Some(Value::String(piece)) = tool_use.get("input") {
                        self.input.push_str(piece);
                        tool_use.remove("input");
                    }
                    object_at(&mut self.value, "toolUse").extend(tool_use);
                }
                ("toolResult", Value::Array(parts)) => {
                    push_all(object_at(&mut self.value, "toolResult"), "content", parts);
                }
                ("reasoningContent", Value::Object(reasoning)) => self.take_reasoning(reasoning),
                ("citation", citation) => {
                    push_all(
                        object_at(&mut self.value, "citationsContent"),
                        "citations",
                        vec![citation],
                    );
                }
                (_, Value::String(piece)) => append(&mut self.value, key, &piece),
                (_, value) => {
                    self.value.insert(key, value);
                }
            }
        }
    }

    /// Text and signature lie one level deeper than in a stream; what is redacted doesn't.
    fn take_reasoning(&mut self, reasoning: Map<String, Value>) {
        let whole = object_at(&mut self.value, "reasoningContent");
        for (key, value) in reasoning {
            match (key.as_str(), value) {
                ("text" | "signature", Value::String(piece)) => append(object_at(whole, "reasoningText"), key, &piece),
                (_, value) => {
                    whole.insert(key, value);
                }
            }
        }
    }

    /// An input that is no JSON is kept as text; text with citations stands beside them.
    fn finish(mut self) -> Value {
        if let Some(Value::Object(tool_use)) = self.value.get_mut("toolUse") {
            let input = match self.input.trim() {
                "" => json!({}),
                input => json::parse(input.as_bytes()).unwrap_or(Value::String(self.input)),
            };
            tool_use.entry("input").or_insert(input);
        }
        if self.value.contains_key("citationsContent")
            && let Some(text) = self.value.remove("text")
        {
            push_all(
                object_at(&mut self.value, "citationsContent"),
                "content",
                vec![json!({ "text": text })],
            );
        }
        if self.value.is_empty() {
            self.value.insert("text".into(), "".into());
        }
        Value::Object(self.value)
    }
}

/// The object under `key`, made where there is none.
fn object_at<'a>(whole: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = whole.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was made an object")
}

fn append(whole: &mut Map<String, Value>, key: String, piece: &str) {
    match whole.entry(key).or_insert(Value::Null) {
        Value::String(text) => text.push_str(piece),
        value => *value = piece.into(),
    }
}

fn push_all(whole: &mut Map<String, Value>, key: &str, items: Vec<Value>) {
    match whole.entry(key).or_insert(Value::Null) {
        Value::Array(all) => all.extend(items),
        value => *value = Value::Array(items),
    }
}
