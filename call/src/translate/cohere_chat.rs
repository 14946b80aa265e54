//! Cohere v2 chat ⇄ OpenAI chat.
//!
//! What a candidate says beside its calls is text, not a `tool_plan`, which is Cohere's own reasoning. Never writes
//! thinking, plans or citations.

use serde_json::{Map, Value, json};

use super::chat::{Delta, finish_word};
use super::ids::tool_call_id;
use super::{Back, Refusal, Writer, errors};
use crate::call::{Response, Usage};

mod request;

pub(super) use request::request;

/// A chat answer in this API.
pub(super) fn answer(_back: &Back, id: &str, answer: &Response) -> Result<Value, Refusal> {
    let text = answer
        .refusal
        .iter()
        .fold(answer.output_text.clone(), |text, refusal| text + refusal);
    let has_calls = !answer.tool_calls.is_empty();
    let mut message = json!({"role": "assistant"});
    if has_calls {
        let calls = answer.tool_calls.iter().enumerate().map(|(index, call)| {
            let id = tool_call_id(call.id.as_deref().unwrap_or_default(), index);
            json!({
                "id": id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            })
        });
        message["tool_calls"] = calls.collect();
    }
    if !text.is_empty() || !has_calls {
        message["content"] = json!([{"type": "text", "text": text}]);
    }
    let finish = answer
        .finish_reason
        .as_deref()
        .map(|word| finish_reason(word, has_calls));
    Ok(json!({
        "id": id,
        "message": message,
        "finish_reason": finish,
        "usage": usage(&answer.usage),
    }))
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
    let known = |counts: &[(&str, Option<i64>)]| -> Map<String, Value> {
        let known = counts.iter().filter_map(|(name, count)| Some((*name, (*count)?)));
        known.map(|(name, count)| (name.to_owned(), count.into())).collect()
    };
    let tokens = known(&[("input_tokens", usage.input), ("output_tokens", usage.output)]);
    let mut written = json!({"billed_units": tokens, "tokens": tokens});
    if let Some(cached) = usage.cached {
        written["cached_tokens"] = cached.into();
    }
    written
}

/// What is being written.
#[derive(Clone, Copy, PartialEq)]
enum Open {
    Nothing,
    Content(usize),
    Call { index: usize, has_arguments: bool },
}

/// Writes the stream of an answer: `message-start`, contents and calls one after the other, `message-end`, `[DONE]`.
pub(super) struct Events {
    open: Open,
    contents: usize,
    has_calls: bool,
    finish: Option<String>,
    usage: Usage,
    has_failed: bool,
}

impl Events {
    /// For an answer to the request of `back`.
    pub(super) fn new(_back: &Back) -> Events {
        Events {
            open: Open::Nothing,
            contents: 0,
            has_calls: false,
            finish: None,
            usage: Usage::default(),
            has_failed: false,
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if !matches!(self.open, Open::Content(_)) {
            self.close(out);
            self.open = Open::Content(self.contents);
            let content = json!({"type": "text", "text": ""});
            put_indexed("content-start", self.contents, json!({"content": content}), out);
            self.contents += 1;
        }
        if let Open::Content(index) = self.open {
            put_indexed("content-delta", index, json!({"content": {"text": text}}), out);
        }
    }

    fn call(&mut self, index: usize, id: &str, name: &str, out: &mut Vec<u8>) {
        self.close(out);
        self.open = Open::Call {
            index,
            has_arguments: false,
        };
        self.has_calls = true;
        let function = json!({"name": name, "arguments": ""});
        let call = json!({"id": tool_call_id(id, index), "type": "function", "function": function});
        put_indexed("tool-call-start", index, json!({"tool_calls": call}), out);
    }

    /// Ends what is being written.
    fn close(&mut self, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Content(index) => put(json!({"type": "content-end", "index": index}), out),
            Open::Call { index, has_arguments } => {
                // No arguments are an empty object.
                if !has_arguments {
                    put_arguments(index, "{}", out);
                }
                put(json!({"type": "tool-call-end", "index": index}), out);
            }
        }
    }
}

impl Writer for Events {
    fn write(&mut self, delta: Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Start { id, .. } => {
                let message =
                    json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
                put(
                    json!({"id": id, "type": "message-start", "delta": {"message": message}}),
                    out,
                );
            }
            Delta::Text(text) | Delta::Refusal(text) => self.text(&text, out),
            Delta::ToolCall { index, id, name } => self.call(index, &id, &name, out),
            Delta::Arguments { index, piece } => {
                if let Open::Call { has_arguments, .. } = &mut self.open {
                    *has_arguments = true;
                }
                put_arguments(index, &piece, out);
            }
            Delta::Finish(word) => self.finish = Some(word),
            Delta::Usage(usage) => self.usage = usage,
            Delta::Error(inner) => {
                self.has_failed = true;
                let (_, message) = errors::in_stream(&inner);
                let delta = json!({"finish_reason": "ERROR", "error": message});
                put(json!({"type": "message-end", "delta": delta}), out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        let Some(word) = self.finish.take().filter(|_| !self.has_failed) else {
            return;
        };
        self.close(out);
        let delta = json!({"finish_reason": finish_reason(&word, self.has_calls), "usage": usage(&self.usage)});
        put(json!({"type": "message-end", "delta": delta}), out);
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

fn put_arguments(index: usize, piece: &str, out: &mut Vec<u8>) {
    let call = json!({"function": {"arguments": piece}});
    put_indexed("tool-call-delta", index, json!({"tool_calls": call}), out);
}

fn put_indexed(kind: &str, index: usize, message: Value, out: &mut Vec<u8>) {
    put(
        json!({"type": kind, "index": index, "delta": {"message": message}}),
        out,
    );
}

/// Writes an event, named as its data is.
fn put(data: Value, out: &mut Vec<u8>) {
    let name = data["type"].as_str().unwrap_or_default();
    out.extend_from_slice(format!("event: {name}\ndata: {data}\n\n").as_bytes());
}

#[cfg(test)]
mod tests;
