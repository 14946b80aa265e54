//! Bedrock Converse ⇄ OpenAI chat.
//!
//! Reasoning is the baseline's own, as in Anthropic's API: it is left out of the candidate's request, and no answer of a
//! candidate has any. How long the answer took is 0, since there is no clock here.

use serde_json::{Value, json};

use super::blocks::{Begun, BlockEvents, Piece};
use super::chat::finish_word;
use super::fields::inexpressible;
use super::ids::{CallIds, is_tool_name};
use super::{Back, Ending, Refusal, tool_calls};
use crate::call::{Response, Usage};
use crate::wire::eventstream;

mod asking;
mod reader;
mod request;

pub(super) use asking::asking;
pub(super) use reader::ConverseEvents;
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

/// The events of an answer: binary messages, each with its checksums.
pub(super) struct Messages;

impl BlockEvents for Messages {
    fn start(&mut self, _id: &str, out: &mut Vec<u8>) {
        eventstream::write_event("messageStart", &json!({"role": "assistant"}), out);
    }

    /// Only calls are said to begin.
    fn begin(&mut self, index: usize, block: Begun<'_>, out: &mut Vec<u8>) {
        if let Begun::Call { id, name } = block {
            let start = json!({"toolUse": {"toolUseId": id, "name": name}});
            let event = json!({"contentBlockIndex": index, "start": start});
            eventstream::write_event("contentBlockStart", &event, out);
        }
    }

    fn delta(&mut self, index: usize, piece: Piece<'_>, out: &mut Vec<u8>) {
        let delta = match piece {
            Piece::Text(text) => json!({"text": text}),
            Piece::Arguments(piece) => json!({"toolUse": {"input": piece}}),
        };
        let event = json!({"contentBlockIndex": index, "delta": delta});
        eventstream::write_event("contentBlockDelta", &event, out);
    }

    fn stop(&mut self, index: usize, out: &mut Vec<u8>) {
        eventstream::write_event("contentBlockStop", &json!({"contentBlockIndex": index}), out);
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        let kind = match status {
            400..=428 => "validationException",
            429 => "throttlingException",
            502 => "modelStreamErrorException",
            503 | 529 => "serviceUnavailableException",
            _ => "internalServerException",
        };
        eventstream::write_exception(kind, &error(status, message), out);
    }

    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) {
        let reason = stop_reason(ending.word, ending.has_calls);
        eventstream::write_event("messageStop", &json!({"stopReason": reason}), out);
        let metadata = json!({"usage": usage(ending.usage), "metrics": {"latencyMs": 0}});
        eventstream::write_event("metadata", &metadata, out);
    }
}

#[cfg(test)]
mod tests;
