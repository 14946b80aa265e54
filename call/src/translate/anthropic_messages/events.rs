//! A chat stream as Anthropic's message events.

use serde_json::{Value, json};

use super::super::chat::Delta;
use super::super::ids::{CallIds, is_tool_name};
use super::super::{BROKE_OFF, Back, Writer, error_said, sse_event, tool_calls};
use super::answer::{opening, stop_reason, usage};
use crate::call::Usage;

/// Writes the stream of an answer.
pub(in super::super) struct Events {
    /// The message as it is opened, but for its id.
    message: Value,
    ids: CallIds,
    open: Option<Block>,
    /// How many blocks were begun.
    blocks: usize,
    /// Blank text that no other has followed: the API takes no blank text back.
    blank: String,
    has_calls: bool,
    is_refused: bool,
    finish: Option<String>,
    usage: Usage,
    has_failed: bool,
}

/// The content block that is being written.
enum Block {
    Text,
    /// A tool call, with its arguments so far.
    Call(String),
}

impl Events {
    /// For an answer to the request of `back`.
    pub(in super::super) fn new(back: &Back) -> Events {
        Events {
            message: opening(back, ""),
            ids: CallIds::of_history(&back.request),
            open: None,
            blocks: 0,
            blank: String::new(),
            has_calls: false,
            is_refused: false,
            finish: None,
            usage: Usage::default(),
            has_failed: false,
        }
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) {
        if !matches!(self.open, Some(Block::Text)) {
            self.blank.push_str(piece);
            if self.blank.trim().is_empty() {
                return;
            }
            self.close(out);
            self.begin(Block::Text, json!({"type": "text", "text": ""}), out);
            let text = std::mem::take(&mut self.blank);
            self.delta(json!({"type": "text_delta", "text": text}), out);
        } else {
            self.delta(json!({"type": "text_delta", "text": piece}), out);
        }
    }

    fn call(&mut self, index: usize, id: &str, name: &str, out: &mut Vec<u8>) {
        self.close(out);
        self.blank.clear();
        if !is_tool_name(name) {
            return self.fail(500, "the model called a tool by a name that can't be said", out);
        }
        self.has_calls = true;
        let id = self.ids.next(id, index);
        let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
        self.begin(Block::Call(String::new()), block, out);
        self.delta(json!({"type": "input_json_delta", "partial_json": ""}), out);
    }

    fn begin(&mut self, block: Block, content_block: Value, out: &mut Vec<u8>) {
        let event = json!({"type": "content_block_start", "index": self.blocks, "content_block": content_block});
        sse_event(&event, out);
        self.open = Some(block);
        self.blocks += 1;
    }

    /// Adds to the open block.
    fn delta(&mut self, delta: Value, out: &mut Vec<u8>) {
        let index = self.blocks.saturating_sub(1);
        sse_event(
            &json!({"type": "content_block_delta", "index": index, "delta": delta}),
            out,
        );
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.open.take() else { return };
        let is_cut = self
            .finish
            .as_deref()
            .is_some_and(|word| stop_reason(word, false, false) == "max_tokens");
        match block {
            Block::Call(arguments) if !is_cut && !tool_calls::is_object(&arguments) => {
                self.fail(500, "the model called a tool with arguments that are no object", out);
            }
            _ => {
                let index = self.blocks.saturating_sub(1);
                sse_event(&json!({"type": "content_block_stop", "index": index}), out);
            }
        }
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        sse_event(&super::error(status, message), out);
        self.has_failed = true;
    }
}

impl Writer for Events {
    fn write(&mut self, delta: Delta, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        match delta {
            Delta::Start { id } => {
                let mut message = self.message.take();
                message["id"] = id.into();
                sse_event(&json!({"type": "message_start", "message": message}), out);
            }
            Delta::Text(piece) => self.text(&piece, out),
            Delta::Refusal(piece) => {
                self.is_refused = true;
                self.text(&piece, out);
            }
            Delta::ToolCall { index, id, name } => self.call(index, &id, &name, out),
            Delta::Arguments { piece, .. } => {
                if let Some(Block::Call(arguments)) = &mut self.open {
                    arguments.push_str(&piece);
                    self.delta(json!({"type": "input_json_delta", "partial_json": piece}), out);
                }
            }
            Delta::Finish(word) => self.finish = Some(word),
            Delta::Usage(usage) => self.usage = usage,
            Delta::Error(error) => {
                let (status, message) = error_said(&error);
                self.fail(status, &message, out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.has_failed && self.finish.is_none() {
            self.fail(500, BROKE_OFF, out);
        }
        if !self.has_failed {
            self.close(out);
        }
        let Some(word) = self.finish.as_deref().filter(|_| !self.has_failed) else {
            return;
        };
        let reason = stop_reason(word, self.has_calls, self.is_refused);
        let delta = json!({"stop_reason": reason, "stop_sequence": null});
        sse_event(
            &json!({"type": "message_delta", "delta": delta, "usage": usage(&self.usage)}),
            out,
        );
        sse_event(&json!({"type": "message_stop"}), out);
    }
}
