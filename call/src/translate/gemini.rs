//! Gemini's and Vertex's generateContent ⇄ OpenAI chat.
//!
//! A function call is written without an id: Gemini's ids are optional, and one of its own is never made up. Never
//! writes a thought or a thought signature.

use serde_json::{Value, json};

use super::chat::finish_word;
use super::tool_calls::{self, Collected};
use super::{Back, Ending, Refusal, Writer, Written};
use crate::call::{Response, ToolCall, Usage};

mod asking;
mod request;
mod tools;

pub(super) use asking::asking;
pub(super) use request::request;
pub(super) use tools::refuse_unsigned_calls;

/// A chat answer in this API.
pub(super) fn answer(back: &Back, id: &str, answer: &Response) -> Result<Value, Refusal> {
    let text = answer
        .refusal
        .iter()
        .fold(answer.output_text.clone(), |text, refusal| text + refusal);
    let mut parts = Vec::new();
    if !text.is_empty() {
        parts.push(json!({"text": text}));
    }
    let end = End {
        finish: answer.finish_reason.as_deref(),
        calls: &answer.tool_calls,
        usage: &answer.usage,
    };
    Ok(end.chunk(back, id, parts))
}

/// An error body of this API.
pub(super) fn error(status: u16, message: &str) -> Value {
    let word = match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    };
    json!({"error": {"code": status, "message": message, "status": word}})
}

/// What the last chunk of an answer says, or a whole answer.
struct End<'a> {
    finish: Option<&'a str>,
    calls: &'a [ToolCall],
    usage: &'a Usage,
}

impl End<'_> {
    /// The chunk, with the tool calls after `parts`.
    fn chunk(&self, back: &Back, id: &str, mut parts: Vec<Value>) -> Value {
        let calls: Option<Vec<Value>> = self.calls.iter().map(call_part).collect();
        // First, as Gemini has it.
        let mut candidate = json!({"content": Value::Null});
        match (calls, self.finish) {
            (Some(calls), finish) => {
                parts.extend(calls);
                if let Some(finish) = finish {
                    candidate["finishReason"] = finish_reason(finish).into();
                }
            }
            // A call was cut. Those before it are not given either: together they were one step.
            (None, Some(finish)) if finish_reason(finish) == "MAX_TOKENS" => {
                candidate["finishReason"] = "MAX_TOKENS".into();
            }
            (None, _) => {
                candidate["finishReason"] = "MALFORMED_FUNCTION_CALL".into();
                let malformed = self.calls.iter().find(|call| call_part(call).is_none());
                let name = malformed.map_or("", |call| call.name.as_str());
                candidate["finishMessage"] = format!("Malformed function call: {name}").into();
            }
        }
        if parts.is_empty() {
            parts.push(json!({"text": ""}));
        }
        candidate["content"] = json!({"parts": parts, "role": "model"});
        candidate["index"] = 0.into();
        let mut chunk = json!({"candidates": [candidate]});
        if let Some(usage) = usage_metadata(self.usage) {
            chunk["usageMetadata"] = usage;
        }
        with_names(chunk, back, id)
    }
}

fn call_part(call: &ToolCall) -> Option<Value> {
    let arguments = tool_calls::arguments(call).filter(|_| is_function_name(&call.name))?;
    Some(json!({"functionCall": {"name": call.name, "args": arguments}}))
}

/// Whether the API takes a call of this name back in its history.
fn is_function_name(name: &str) -> bool {
    let is_first = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
    let is_next = |letter: char| is_first(letter) || letter.is_ascii_digit() || matches!(letter, '.' | ':' | '-');
    name.starts_with(is_first) && name.len() <= 128 && name.chars().all(is_next)
}

/// Gemini's word; a finish with tool calls is no special one.
fn finish_reason(word: &str) -> &'static str {
    match finish_word(word, false) {
        "length" => "MAX_TOKENS",
        "content_filter" => "SAFETY",
        _ => "STOP",
    }
}

/// Gemini counts thoughts apart from the answer.
fn usage_metadata(usage: &Usage) -> Option<Value> {
    let total = usage.input.unwrap_or(0).saturating_add(usage.output.unwrap_or(0));
    let reasoning = usage.reasoning.filter(|tokens| *tokens > 0);
    let answer = usage.output.map(|output| output.saturating_sub(reasoning.unwrap_or(0)));
    let counts = [
        ("promptTokenCount", usage.input),
        ("candidatesTokenCount", answer),
        ("totalTokenCount", usage.input.or(usage.output).map(|_| total)),
        ("cachedContentTokenCount", usage.cached.filter(|tokens| *tokens > 0)),
        ("thoughtsTokenCount", reasoning),
    ];
    let known = counts
        .into_iter()
        .filter_map(|(name, count)| Some((name.to_owned(), count?.into())));
    let known: serde_json::Map<String, Value> = known.collect();
    (!known.is_empty()).then(|| known.into())
}

fn with_names(mut chunk: Value, back: &Back, id: &str) -> Value {
    chunk["modelVersion"] = back.model.as_str().into();
    if !id.is_empty() {
        chunk["responseId"] = id.into();
    }
    chunk
}

/// Writes the stream of an answer: server-sent events with CRLF, or one growing array, as Gemini lays them out.
///
/// Text goes out as it comes. Tool calls are whole parts in Gemini: they wait for the finish word, since a call is not
/// known to be whole before, and go out with it in the last chunk.
pub(super) struct Chunks {
    back: Back,
    id: String,
    calls: Collected,
    chunks: usize,
}

impl Chunks {
    /// For an answer to the request of `back`.
    pub(super) fn new(back: &Back) -> Chunks {
        Chunks {
            back: Back {
                request: Value::Null,
                ..back.clone()
            },
            id: String::new(),
            calls: Collected::default(),
            chunks: 0,
        }
    }

    fn chunk(&mut self, chunk: &Value, out: &mut Vec<u8>) {
        if self.back.as_array {
            out.extend_from_slice(if self.chunks == 0 { b"[" } else { b"\n,\r\n" });
            out.extend_from_slice(format!("{chunk:#}").as_bytes());
        } else {
            out.extend_from_slice(format!("data: {chunk}\r\n\r\n").as_bytes());
        }
        self.chunks += 1;
    }

    /// Nothing follows: the end of the array.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.back.as_array {
            out.extend_from_slice(b"\n]\n");
        }
    }
}

impl Writer for Chunks {
    fn start(&mut self, id: &str, _out: &mut Vec<u8>) {
        self.id = id.to_owned();
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        let content = json!({"parts": [{"text": piece}], "role": "model"});
        let chunk = json!({"candidates": [{"content": content, "index": 0}]});
        self.chunk(&with_names(chunk, &self.back, &self.id), out);
        Ok(())
    }

    fn calls(&mut self) -> Option<&mut Collected> {
        Some(&mut self.calls)
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        self.chunk(&error(status, message), out);
        self.close(out);
    }

    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Written {
        let end = End {
            finish: Some(ending.word),
            calls: self.calls.calls(),
            usage: ending.usage,
        };
        let chunk = end.chunk(&self.back, &self.id, Vec::new());
        self.chunk(&chunk, out);
        self.close(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
