//! Cohere's chat events, read as they come. Thinking, plans of calls and citations are left out.

use serde_json::{Value, json};

use super::super::told::{Events, Told, read};
use crate::call::Api;
use crate::wire::json::{integer, text};

/// What is known of an answer.
#[derive(Default)]
pub(in super::super) struct ChatEvents {
    /// The place of the call that is being told.
    open: Option<i64>,
}

impl Events for ChatEvents {
    fn event(&mut self, name: &str, data: &Value, told: &mut Told) {
        let delta = data.get("delta").unwrap_or(&Value::Null);
        let message = delta.get("message").unwrap_or(&Value::Null);
        let call = message.get("tool_calls").unwrap_or(&Value::Null);
        let function = call.get("function").unwrap_or(&Value::Null);
        let place = integer(data, "index").unwrap_or(0);
        match text(data, "type").unwrap_or(name) {
            "message-start" => told.start(text(data, "id").unwrap_or_default()),
            "content-start" | "content-delta" => {
                let content = message.get("content").unwrap_or(&Value::Null);
                told.text(text(content, "text").unwrap_or_default());
            }
            "tool-call-start" => {
                let id = text(call, "id").unwrap_or_default();
                told.call(id, text(function, "name").unwrap_or_default());
                told.arguments(text(function, "arguments").unwrap_or_default());
                self.open = Some(place);
            }
            "tool-call-delta" if self.open == Some(place) => {
                told.arguments(text(function, "arguments").unwrap_or_default());
            }
            "tool-call-delta" => told.fail("pieces of two tool calls are mixed".into()),
            "message-end" => {
                if let Some(error) = delta.get("error").filter(|error| !error.is_null()) {
                    told.fail(error.clone());
                }
                let usage = read(Api::CohereChat, json!({"usage": delta.get("usage")})).usage;
                told.ends(text(delta, "finish_reason"), usage);
                told.end();
            }
            // An error's body in the middle of a stream.
            "" if data.get("message").is_some_and(Value::is_string) => told.fail(data.clone()),
            _ => {}
        }
    }
}
