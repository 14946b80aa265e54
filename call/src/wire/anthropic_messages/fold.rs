//! Folds a stream of Anthropic's message events to the message that they add up to, or one of legacy completion events
//! to their completion.
//!
//! Events and deltas of unknown kinds are kept where they say where they belong, and are never an error.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::event::Said;
use super::super::framing::{Event, Events};
use super::super::{Assembled, json};

/// Folds a whole streamed body.
pub(in super::super) fn fold(events: Events<'_>) -> Assembled {
    let mut fold = Fold::default();
    for event in events {
        match event.said() {
            Said::Object(data) => {
                let kind = data
                    .get("type")
                    .and_then(Value::as_str)
                    .unwrap_or(&event.name)
                    .to_owned();
                fold.take_event(&kind, data);
            }
            Said::Error(error) => fold.error = Some(error),
            Said::Done => {}
            Said::Unreadable => fold.skipped_events += 1,
        }
    }
    fold.finish()
}

/// Whether a stream's event carries text, thinking or a part of a tool call.
pub(in super::super) fn carries_output(event: &Event<'_>) -> bool {
    json::parse(&event.data).is_ok_and(|data| has_output(&data))
}

fn has_output(data: &Value) -> bool {
    const OUTPUT_KEYS: [&str; 3] = ["text", "thinking", "partial_json"];
    let says_something = |value: &Value| OUTPUT_KEYS.iter().any(|key| json::text(value, key).is_some());
    match json::text(data, "type") {
        Some("content_block_delta") => data.get("delta").is_some_and(says_something),
        Some("content_block_start") => {
            let block = data.get("content_block").unwrap_or(&Value::Null);
            // A tool's name is output too.
            says_something(block) || json::text(block, "type").is_some_and(|kind| kind.ends_with("tool_use"))
        }
        Some("completion") => json::text(data, "completion").is_some(),
        _ => false,
    }
}

#[derive(Default)]
struct Fold {
    message: Map<String, Value>,
    blocks: BTreeMap<i64, Block>,
    stopped: bool,
    error: Option<Value>,
    skipped_events: u32,
}

/// A content block as far as it has come, and the JSON text of its input.
#[derive(Default)]
struct Block {
    value: Map<String, Value>,
    input: String,
}

impl Fold {
    fn take_event(&mut self, kind: &str, mut data: Map<String, Value>) {
        let index = data.get("index").and_then(Value::as_i64).unwrap_or(0);
        match (kind, &mut data) {
            ("message_start", data) => {
                if let Some(Value::Object(message)) = data.remove("message") {
                    set_all(&mut self.message, message);
                }
            }
            ("content_block_start", data) => {
                if let Some(Value::Object(value)) = data.remove("content_block") {
                    self.blocks.insert(
                        index,
                        Block {
                            value,
                            input: String::new(),
                        },
                    );
                }
            }
            ("content_block_delta", data) => {
                if let Some(Value::Object(delta)) = data.remove("delta") {
                    self.blocks.entry(index).or_default().take_delta(delta);
                }
            }
            ("message_delta", data) => self.take_message_delta(std::mem::take(data)),
            ("message_stop", _) => self.stopped = true,
            ("completion", data) => self.take_completion(std::mem::take(data)),
            ("error", data) => {
                let error = data.remove("error").filter(|error| !error.is_null());
                self.error = Some(error.unwrap_or_else(|| Value::Object(std::mem::take(data))));
            }
            _ => {}
        }
    }

    /// Usage is cumulative, and gateways send zeros at first: later numbers take the place of earlier ones.
    fn take_message_delta(&mut self, mut data: Map<String, Value>) {
        data.remove("type");
        if let Some(Value::Object(delta)) = data.remove("delta") {
            set_all(&mut self.message, delta);
        }
        if let Some(Value::Object(usage)) = data.remove("usage")
            && let Value::Object(whole) = self.message.entry("usage").or_insert_with(|| json!({}))
        {
            set_all(whole, usage);
        }
        set_all(&mut self.message, data);
    }

    /// The legacy API's events: each has the next piece, and all fields of the whole.
    fn take_completion(&mut self, mut data: Map<String, Value>) {
        let piece = data.remove("completion");
        // There is no other end mark.
        self.stopped |= data.get("stop_reason").is_some_and(Value::is_string);
        set_all(&mut self.message, data);
        match (self.message.get_mut("completion"), piece) {
            (Some(Value::String(text)), Some(Value::String(more))) => text.push_str(&more),
            (_, Some(piece)) => {
                self.message.insert("completion".into(), piece);
            }
            (_, None) => {}
        }
    }

    fn finish(mut self) -> Assembled {
        let is_completion = self.message.contains_key("completion") && self.blocks.is_empty();
        let blocks: Vec<Value> = self.blocks.into_values().map(Block::finish).collect();
        if !is_completion {
            self.message.entry("type").or_insert_with(|| "message".into());
            self.message.entry("role").or_insert_with(|| "assistant".into());
            self.message.insert("content".into(), Value::Array(blocks));
        }
        Assembled {
            body: Value::Object(self.message),
            streamed: true,
            partial: !self.stopped,
            error: self.error,
            skipped_events: self.skipped_events,
        }
    }
}

impl Block {
    /// Text grows, whatever its key; all else is set.
    fn take_delta(&mut self, delta: Map<String, Value>) {
        for (key, value) in delta {
            match (key.as_str(), value) {
                ("type", _) => {}
                ("partial_json", Value::String(piece)) => self.input.push_str(&piece),
                ("citation", citation) => match self.value.entry("citations").or_insert(Value::Null) {
                    Value::Array(citations) => citations.push(citation),
                    citations => *citations = Value::Array(vec![citation]),
                },
                (_, Value::String(piece)) => match self.value.entry(key).or_insert(Value::Null) {
                    Value::String(text) => text.push_str(&piece),
                    value => *value = Value::String(piece),
                },
                (_, value) => {
                    self.value.insert(key, value);
                }
            }
        }
    }

    /// An input that came whole at the start stays where no pieces followed; one that is no JSON is kept as text.
    fn finish(mut self) -> Value {
        if !self.input.trim().is_empty() {
            let input = json::parse(self.input.as_bytes()).unwrap_or(Value::String(self.input));
            self.value.insert("input".into(), input);
        }
        Value::Object(self.value)
    }
}

/// Sets every field that says something.
fn set_all(whole: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (key, value) in fields {
        if !value.is_null() || !whole.contains_key(&key) {
            whole.insert(key, value);
        }
    }
}
