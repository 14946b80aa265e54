//! Cohere v2 chat ⇄ OpenAI chat.
//!
//! What a candidate says beside its calls is text, not a `tool_plan`, which is Cohere's own reasoning. Never writes
//! thinking, plans or citations.

use serde_json::{Map, Value, json};

use super::chat::finish_word;
use super::fields::inexpressible;
use super::ids::{CallIds, is_tool_name};
use super::{Back, Ending, Refusal, Writer, Written, sse_event, tool_calls};
use crate::call::{Response, ToolCall, Usage};

mod asking;
mod reader;
mod request;

pub(super) use asking::asking;
pub(super) use reader::ChatEvents;
pub(super) use request::request;

/// A chat answer in this API.
pub(super) fn answer(back: &Back, id: &str, answer: &Response) -> Result<Value, Refusal> {
    let text = answer.output_text.clone() + answer.refusal.as_deref().unwrap_or_default();
    let has_calls = !answer.tool_calls.is_empty();
    let word = answer.finish_reason.as_deref();
    let finish = word.map(|word| finish_reason(word, has_calls));
    let mut message = json!({"role": "assistant"});
    let mut ids = CallIds::of_history(&back.request);
    let mut calls = Vec::new();
    for (index, call) in answer.tool_calls.iter().enumerate() {
        match fault(call) {
            // Cut off with the answer: it can't be called.
            Some(_) if finish == Some("MAX_TOKENS") => {}
            Some(fault) => return Err(inexpressible(format!("choices[0].message.tool_calls[{index}]"), fault)),
            None => {
                let id = ids.next(call.id.as_deref().unwrap_or_default(), index);
                let function = json!({"name": call.name, "arguments": call.arguments});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
        }
    }
    if !text.is_empty() || calls.is_empty() {
        message["content"] = json!([{"type": "text", "text": text}]);
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Ok(json!({"id": id, "message": message, "finish_reason": finish, "usage": usage(&answer.usage)}))
}

/// An error body of this API.
pub(super) fn error(_status: u16, message: &str) -> Value {
    json!({"message": message})
}

/// Cohere's word. It says of any answer with calls that it ends in them, and of a filter that the answer failed.
fn finish_reason(word: &str, has_calls: bool) -> &'static str {
    match finish_word(word, has_calls) {
        "length" => "MAX_TOKENS",
        "content_filter" => "ERROR",
        _ if has_calls => "TOOL_CALL",
        _ => "COMPLETE",
    }
}

/// Tokens; nobody bills them here, and what Cohere would bill is all of them.
fn usage(usage: &Usage) -> Value {
    let counts = [("input_tokens", usage.input), ("output_tokens", usage.output)];
    let known = counts.into_iter().filter_map(|(name, count)| Some((name, count?)));
    let tokens: Map<String, Value> = known.map(|(name, count)| (name.to_owned(), count.into())).collect();
    let mut written = json!({"billed_units": tokens, "tokens": tokens});
    if let Some(cached) = usage.cached {
        written["cached_tokens"] = cached.into();
    }
    written
}

/// Why the API would not take a call back in its history.
fn fault(call: &ToolCall) -> Option<String> {
    if !is_tool_name(&call.name) {
        return Some(format!("the tool called has no plain name: `{}`", call.name));
    }
    let is_whole = tool_calls::arguments(call).is_some();
    (!is_whole).then(|| tool_calls::malformed(&call.name))
}

/// What is being written.
#[derive(Default)]
enum Open {
    #[default]
    Nothing,
    Content(usize),
    Call(usize, ToolCall),
}

/// Writes the stream of an answer: `message-start`, contents and calls one after the other, `message-end`, `[DONE]`.
#[derive(Default)]
pub(super) struct Events {
    open: Open,
    contents: usize,
}

impl Events {
    /// Ends what is being written; a call may be cut only where the answer is.
    fn close(&mut self, is_cut: bool, out: &mut Vec<u8>) -> Written {
        match std::mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::Content(index) => sse_event(&json!({"type": "content-end", "index": index}), out),
            Open::Call(index, call) => {
                if let Some(fault) = fault(&call).filter(|_| !is_cut) {
                    return Err(fault);
                }
                // No arguments are an empty object.
                if call.arguments.is_empty() {
                    put_arguments(index, "{}", out);
                }
                sse_event(&json!({"type": "tool-call-end", "index": index}), out);
            }
        }
        Ok(())
    }
}

impl Writer for Events {
    fn start(&mut self, id: &str, out: &mut Vec<u8>) {
        let message = json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
        let event = json!({"id": id, "type": "message-start", "delta": {"message": message}});
        sse_event(&event, out);
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        let index = match self.open {
            Open::Content(index) => index,
            _ => {
                self.close(false, out)?;
                let content = json!({"type": "text", "text": ""});
                put("content-start", self.contents, json!({"content": content}), out);
                self.open = Open::Content(self.contents);
                self.contents += 1;
                self.contents - 1
            }
        };
        put("content-delta", index, json!({"content": {"text": piece}}), out);
        Ok(())
    }

    fn call(&mut self, index: usize, id: &str, name: &str, out: &mut Vec<u8>) -> Written {
        self.close(false, out)?;
        let function = json!({"name": name, "arguments": ""});
        let call = json!({"id": id, "type": "function", "function": function});
        put("tool-call-start", index, json!({"tool_calls": call}), out);
        let call = ToolCall {
            id: None,
            name: name.to_owned(),
            arguments: String::new(),
        };
        self.open = Open::Call(index, call);
        Ok(())
    }

    fn arguments(&mut self, index: usize, piece: &str, out: &mut Vec<u8>) {
        if let Open::Call(_, call) = &mut self.open {
            call.arguments.push_str(piece);
            put_arguments(index, piece, out);
        }
    }

    fn fail(&mut self, _status: u16, message: &str, out: &mut Vec<u8>) {
        let delta = json!({"finish_reason": "ERROR", "error": message});
        sse_event(&json!({"type": "message-end", "delta": delta}), out);
    }

    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Written {
        let finish = finish_reason(ending.word, ending.has_calls);
        self.close(finish == "MAX_TOKENS", out)?;
        let delta = json!({"finish_reason": finish, "usage": usage(ending.usage)});
        sse_event(&json!({"type": "message-end", "delta": delta}), out);
        out.extend_from_slice(b"data: [DONE]\n\n");
        Ok(())
    }
}

fn put_arguments(index: usize, piece: &str, out: &mut Vec<u8>) {
    let call = json!({"function": {"arguments": piece}});
    put("tool-call-delta", index, json!({"tool_calls": call}), out);
}

fn put(kind: &str, index: usize, message: Value, out: &mut Vec<u8>) {
    sse_event(
        &json!({"type": kind, "index": index, "delta": {"message": message}}),
        out,
    );
}

#[cfg(test)]
mod tests;
