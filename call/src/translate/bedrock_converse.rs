//! Bedrock Converse ⇄ OpenAI chat.
//!
//! Reasoning is the baseline's own, as in Anthropic's API: it is left out of the candidate's request, and no answer of a
//! candidate has any. How long the answer took is 0, since there is no clock here.

use serde_json::{Value, json};

use super::chat::{Delta, finish_word};
use super::fields::inexpressible;
use super::ids::{CallIds, is_tool_name};
use super::{BROKE_OFF, Back, Refusal, Writer, error_said, tool_calls};
use crate::call::{Response, Usage};
use crate::wire::eventstream;

mod request;

pub(super) use request::request;

/// A chat answer in this API.
pub(super) fn answer(back: &Back, _id: &str, answer: &Response) -> Result<Value, Refusal> {
    let has_calls = !answer.tool_calls.is_empty();
    let reason = stop_reason(answer.finish_reason.as_deref().unwrap_or_default(), has_calls);
    let texts = [Some(answer.output_text.as_str()), answer.refusal.as_deref()];
    // The API takes no blank text back.
    let texts = texts.into_iter().flatten().filter(|text| !text.trim().is_empty());
    let mut content: Vec<Value> = texts.map(|text| json!({"text": text})).collect();
    let mut ids = CallIds::of_history(&back.request);
    for (index, call) in answer.tool_calls.iter().enumerate() {
        match tool_calls::arguments(call).filter(|_| is_tool_name(&call.name)) {
            Some(input) => {
                let id = ids.next(call.id.as_deref().unwrap_or_default(), index);
                content.push(json!({"toolUse": {"toolUseId": id, "name": call.name, "input": input}}));
            }
            // Cut off with the answer: it can't be called.
            None if reason == "max_tokens" && is_tool_name(&call.name) => {}
            None => {
                let what = "a tool call must have a plain name and an object of arguments";
                return Err(inexpressible(format!("tool_calls[{index}]"), what));
            }
        }
    }
    Ok(json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason,
        "usage": usage(&answer.usage),
        "metrics": {"latencyMs": 0},
    }))
}

/// An error body of this API.
pub(super) fn error(_status: u16, message: &str) -> Value {
    json!({"message": message})
}

/// Why an answer stopped, in the API's words.
fn stop_reason(finish: &str, has_calls: bool) -> &'static str {
    match finish_word(finish, has_calls) {
        "length" => "max_tokens",
        "content_filter" => "content_filtered",
        "tool_calls" => "tool_use",
        _ => "end_turn",
    }
}

/// The API counts cached input apart, and its clients ask for all totals: what is not known is 0.
fn usage(usage: &Usage) -> Value {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    let (cached, cache_write) = (usage.cached.unwrap_or(0), usage.cache_write.unwrap_or(0));
    json!({
        "inputTokens": input.saturating_sub(cached).saturating_sub(cache_write).max(0),
        "outputTokens": output,
        "totalTokens": input.saturating_add(output),
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": cache_write,
    })
}

/// Writes the stream of an answer: binary messages, each with its checksums.
pub(super) struct Messages {
    ids: CallIds,
    open: Option<Block>,
    /// How many blocks were begun.
    blocks: usize,
    /// Blank text that no other has followed.
    blank: String,
    has_calls: bool,
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

impl Messages {
    /// For an answer to the request of `back`.
    pub(super) fn new(back: &Back) -> Messages {
        Messages {
            ids: CallIds::of_history(&back.request),
            open: None,
            blocks: 0,
            blank: String::new(),
            has_calls: false,
            finish: None,
            usage: Usage::default(),
            has_failed: false,
        }
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) {
        self.blank.push_str(piece);
        if !matches!(self.open, Some(Block::Text)) {
            if self.blank.trim().is_empty() {
                return;
            }
            self.close(out);
            self.open = Some(Block::Text);
            self.blocks += 1;
        }
        let text = std::mem::take(&mut self.blank);
        self.delta(json!({"text": text}), out);
    }

    fn call(&mut self, index: usize, id: &str, name: &str, out: &mut Vec<u8>) {
        self.close(out);
        self.blank.clear();
        if !is_tool_name(name) {
            return self.fail(500, "the model called a tool by a name that can't be said", out);
        }
        self.has_calls = true;
        let id = self.ids.next(id, index);
        let start = json!({"toolUse": {"toolUseId": id, "name": name}});
        let event = json!({"contentBlockIndex": self.blocks, "start": start});
        eventstream::write_event("contentBlockStart", &event, out);
        self.open = Some(Block::Call(String::new()));
        self.blocks += 1;
    }

    /// Adds to the open block.
    fn delta(&self, delta: Value, out: &mut Vec<u8>) {
        let event = json!({"contentBlockIndex": self.blocks.saturating_sub(1), "delta": delta});
        eventstream::write_event("contentBlockDelta", &event, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(block) = self.open.take() else { return };
        let is_cut = self
            .finish
            .as_deref()
            .is_some_and(|word| stop_reason(word, false) == "max_tokens");
        match block {
            Block::Call(arguments) if !is_cut && !tool_calls::is_object(&arguments) => {
                self.fail(500, "the model called a tool with arguments that are no object", out);
            }
            _ => {
                let event = json!({"contentBlockIndex": self.blocks.saturating_sub(1)});
                eventstream::write_event("contentBlockStop", &event, out);
            }
        }
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        let kind = match status {
            400..=428 => "validationException",
            429 => "throttlingException",
            503 | 529 => "serviceUnavailableException",
            _ => "internalServerException",
        };
        eventstream::write_exception(kind, &error(status, message), out);
        self.has_failed = true;
    }
}

impl Writer for Messages {
    fn write(&mut self, delta: Delta, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        match delta {
            Delta::Start { .. } => eventstream::write_event("messageStart", &json!({"role": "assistant"}), out),
            Delta::Text(piece) | Delta::Refusal(piece) => self.text(&piece, out),
            Delta::ToolCall { index, id, name } => self.call(index, &id, &name, out),
            Delta::Arguments { piece, .. } => {
                if let Some(Block::Call(arguments)) = &mut self.open {
                    arguments.push_str(&piece);
                    self.delta(json!({"toolUse": {"input": piece}}), out);
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
        let reason = stop_reason(word, self.has_calls);
        eventstream::write_event("messageStop", &json!({"stopReason": reason}), out);
        let metadata = json!({"usage": usage(&self.usage), "metrics": {"latencyMs": 0}});
        eventstream::write_event("metadata", &metadata, out);
    }
}

#[cfg(test)]
mod tests;
