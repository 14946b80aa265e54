//! Converse's events, read as they come. Reasoning, and tools that the provider runs, are left out.

use serde_json::{Value, json};

use super::super::told::{Events, Told, read};
use crate::call::{Api, Usage};
use crate::wire::json::{integer, text};

/// What is known of an answer.
#[derive(Default)]
pub(in super::super) struct ConverseEvents {
    /// The block of the call that is being told.
    open: Option<i64>,
}

impl Events for ConverseEvents {
    fn event(&mut self, name: &str, data: &Value, told: &mut Told) {
        let block = integer(data, "contentBlockIndex").unwrap_or(0);
        match name {
            "messageStart" => told.start(""),
            "contentBlockStart" => {
                self.open = None;
                if let Some(call) = data.pointer("/start/toolUse").filter(|call| is_clients(call)) {
                    let id = text(call, "toolUseId").unwrap_or_default();
                    told.call(id, text(call, "name").unwrap_or_default());
                    self.open = Some(block);
                }
            }
            "contentBlockDelta" => {
                let delta = data.get("delta").unwrap_or(&Value::Null);
                told.text(text(delta, "text").unwrap_or_default());
                let input = delta.get("toolUse").and_then(|call| text(call, "input"));
                match (input, self.open) {
                    (Some(input), Some(open)) if open == block => told.arguments(input),
                    (Some(_), Some(_)) => told.fail("pieces of two tool calls are mixed".into()),
                    // Of a tool that the provider runs.
                    _ => {}
                }
            }
            "contentBlockStop" => self.open = None,
            "messageStop" => told.ends(text(data, "stopReason"), Usage::default()),
            "metadata" => {
                told.ends(
                    None,
                    read(Api::BedrockConverse, json!({"usage": data.get("usage")})).usage,
                );
                told.end();
            }
            _ => {}
        }
    }
}

fn is_clients(call: &Value) -> bool {
    text(call, "type") != Some("server_tool_use")
}
