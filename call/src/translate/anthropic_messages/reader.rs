//! Anthropic's message events, read as they come. Thinking, and tools that the provider runs, are left out.

use serde_json::{Map, Value, json};

use super::super::told::{Events, Told, read};
use crate::call::{Api, Usage};
use crate::wire::json::{integer, text};

/// What is known of a message.
#[derive(Default)]
pub(in super::super) struct MessageEvents {
    open: Option<OpenCall>,
    /// Cumulative: later numbers take the place of earlier ones.
    usage: Map<String, Value>,
}

/// The tool call that is being told.
struct OpenCall {
    index: Option<i64>,
    /// An input that came whole at the start; it counts where no pieces follow.
    whole: Option<String>,
}

impl Events for MessageEvents {
    fn event(&mut self, name: &str, data: &Value, told: &mut Told) {
        match text(data, "type").unwrap_or(name) {
            "message_start" => {
                let message = data.get("message").unwrap_or(&Value::Null);
                self.add_usage(message.get("usage"));
                told.model(text(message, "model"));
                told.start(text(message, "id").unwrap_or_default());
            }
            "content_block_start" => self.begin(data, told),
            "content_block_delta" => self.add(data, told),
            "content_block_stop" => self.close(told),
            "message_delta" => {
                self.close(told);
                self.add_usage(data.get("usage"));
                let delta = data.get("delta").unwrap_or(&Value::Null);
                told.ends(text(delta, "stop_reason"), self.usage());
            }
            "message_stop" => told.end(),
            _ => {}
        }
    }
}

impl MessageEvents {
    fn begin(&mut self, data: &Value, told: &mut Told) {
        self.close(told);
        let block = data.get("content_block").unwrap_or(&Value::Null);
        match text(block, "type") {
            Some("text") => told.text(text(block, "text").unwrap_or_default()),
            Some("tool_use") => {
                told.call(
                    text(block, "id").unwrap_or_default(),
                    text(block, "name").unwrap_or_default(),
                );
                let input = block
                    .get("input")
                    .filter(|input| **input != json!({}) && !input.is_null());
                self.open = Some(OpenCall {
                    index: integer(data, "index"),
                    whole: input.map(Value::to_string),
                });
            }
            _ => {}
        }
    }

    fn add(&mut self, data: &Value, told: &mut Told) {
        let delta = data.get("delta").unwrap_or(&Value::Null);
        match text(delta, "type") {
            Some("text_delta") => told.text(text(delta, "text").unwrap_or_default()),
            Some("input_json_delta") => {
                let Some(piece) = text(delta, "partial_json") else {
                    return;
                };
                match &mut self.open {
                    Some(open) if open.index == integer(data, "index") => {
                        open.whole = None;
                        told.arguments(piece);
                    }
                    // Of a tool that the provider runs.
                    None => {}
                    Some(_) => told.fail("pieces of two tool calls are mixed".into()),
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, told: &mut Told) {
        if let Some(whole) = self.open.take().and_then(|open| open.whole) {
            told.arguments(&whole);
        }
    }

    fn add_usage(&mut self, usage: Option<&Value>) {
        let known = usage.and_then(Value::as_object).into_iter().flatten();
        let known = known.filter(|(_, value)| !value.is_null());
        self.usage
            .extend(known.map(|(key, value)| (key.clone(), value.clone())));
    }

    fn usage(&self) -> Usage {
        read(Api::AnthropicMessages, json!({"usage": self.usage})).usage
    }
}
