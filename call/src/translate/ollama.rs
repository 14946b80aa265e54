//! Ollama's native chat ⇄ OpenAI chat.
//!
//! Writes no durations but 0, which clients ask for: how long a candidate took is not Ollama's to say, and there is no
//! clock here. Never writes `thinking`.

use serde_json::{Value, json};

use super::chat::finish_word;
use super::fields::inexpressible;
use super::tool_calls::{self, Collected};
use super::{Back, Ending, Refusal, Writer, Written};
use crate::call::{Response, ToolCall, Usage};

mod asking;
mod request;
mod time;

pub(super) use asking::asking;
pub(super) use request::request;

/// A chat answer in this API.
pub(super) fn answer(back: &Back, _id: &str, answer: &Response) -> Result<Value, Refusal> {
    let text = answer
        .refusal
        .iter()
        .fold(answer.output_text.clone(), |text, refusal| text + refusal);
    let calls = whole_calls(&answer.tool_calls, answer.finish_reason.as_deref());
    let calls = calls.map_err(|error| inexpressible("message.tool_calls", error))?;
    let mut line = line(back, 0, &text, calls);
    close(&mut line, answer.finish_reason.as_deref(), &answer.usage);
    Ok(line)
}

/// Says in a whole answer when it was made, in seconds since 1970.
pub(super) fn set_created(answer: &mut Value, seconds: i64) {
    answer["created_at"] = time::rfc3339(seconds).into();
}

/// An error body of this API.
pub(super) fn error(_status: u16, message: &str) -> Value {
    json!({"error": message})
}

/// One line of a stream, or the beginning of a whole answer.
fn line(back: &Back, created: i64, text: &str, calls: Vec<Value>) -> Value {
    let mut message = json!({"role": "assistant", "content": text});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    json!({"model": back.model, "created_at": time::rfc3339(created), "message": message, "done": false})
}

/// The calls, whose arguments are objects here. Where the length ran out within them there are none: what was to come
/// can't be told.
fn whole_calls(calls: &[ToolCall], finish: Option<&str>) -> Result<Vec<Value>, String> {
    let whole = calls.iter().map(|call| {
        let arguments = tool_calls::arguments(call).ok_or_else(|| tool_calls::malformed(&call.name))?;
        Ok(json!({"function": {"name": call.name, "arguments": arguments}}))
    });
    match whole.collect() {
        Err(_) if finish.is_some_and(|word| finish_word(word, false) == "length") => Ok(Vec::new()),
        whole => whole,
    }
}

/// Makes a line the last one.
fn close(line: &mut Value, finish: Option<&str>, usage: &Usage) {
    line["done"] = true.into();
    if let Some(word) = finish {
        line["done_reason"] = done_reason(word).into();
    }
    let counts = [
        ("total_duration", Some(0)),
        ("load_duration", Some(0)),
        ("prompt_eval_count", usage.input),
        ("prompt_eval_duration", Some(0)),
        ("eval_count", usage.output),
        ("eval_duration", Some(0)),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            line[name] = count.into();
        }
    }
}

/// Ollama's word; a finish with tool calls is no special one, and of a filter it has none of its own.
fn done_reason(word: &str) -> &'static str {
    match finish_word(word, false) {
        "length" => "length",
        "content_filter" => "content_filter",
        _ => "stop",
    }
}

/// Writes the stream of an answer: lines of JSON. Text goes out as it comes; tool calls are whole here, so they wait for
/// the finish word.
pub(super) struct Lines {
    back: Back,
    created: i64,
    calls: Collected,
}

impl Lines {
    /// For an answer to the request of `back`.
    pub(super) fn new(back: &Back) -> Lines {
        Lines {
            back: Back {
                request: Value::Null,
                ..back.clone()
            },
            created: 0,
            calls: Collected::default(),
        }
    }

    fn line(&self, text: &str, calls: Vec<Value>) -> Value {
        line(&self.back, self.created, text, calls)
    }
}

impl Writer for Lines {
    fn set_created(&mut self, seconds: i64) {
        self.created = seconds;
    }

    fn start(&mut self, _id: &str, _out: &mut Vec<u8>) {}

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        put(&self.line(piece, Vec::new()), out);
        Ok(())
    }

    fn calls(&mut self) -> Option<&mut Collected> {
        Some(&mut self.calls)
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        put(&error(status, message), out);
    }

    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Written {
        let calls = whole_calls(self.calls.calls(), Some(ending.word))?;
        if !calls.is_empty() {
            put(&self.line("", calls), out);
        }
        let mut last = self.line("", Vec::new());
        close(&mut last, Some(ending.word), ending.usage);
        put(&last, out);
        Ok(())
    }
}

fn put(line: &Value, out: &mut Vec<u8>) {
    out.extend_from_slice(line.to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
