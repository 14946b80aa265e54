//! Cohere: chat of its API's version 2 and of version 1, and the generate and embed beside them.
//!
//! No field means one thing in one version and another in the other, so one reader takes both. Thinking, and the plan
//! that is made before tools are called, are kept apart from text.

use serde_json::Value;

use super::framing::Event;
use super::json::{arguments, integer, list, text};
use crate::call::{Response, ToolCall, Usage};

mod fold;
mod request;

pub(super) use fold::fold;
pub(super) use request::request;

/// Reads a response object: version 2 answers with a `message`, version 1 with a `text`, generate with `generations`.
pub(super) fn response(body: &Value) -> Response {
    let generations = list(body, "generations");
    let message = body.get("message").filter(|message| message.is_object());
    let answer = message.or_else(|| generations.first()).unwrap_or(body);
    let is_answer = message.is_some() || body.get("text").is_some_and(Value::is_string);
    let finish_reason = text(body, "finish_reason").or_else(|| text(answer, "finish_reason"));
    let id = text(body, "id").or_else(|| text(body, "response_id"));
    let thoughts = contents(answer).iter().filter_map(|part| text(part, "thinking"));
    Response {
        id: id.map(Into::into),
        model: text(body, "model").map(Into::into),
        output_text: contents(answer).iter().filter_map(part_text).collect(),
        reasoning_text: thoughts.chain(text(answer, "tool_plan")).collect(),
        tool_calls: tool_calls(answer),
        finish_reason: finish_reason.map(Into::into),
        choices: generations.len().max(usize::from(is_answer)),
        usage: usage(body),
        ..Response::default()
    }
}

/// What a message says, as parts: a list, or text of its own under the version's key.
fn contents(message: &Value) -> &[Value] {
    match message.get("content").or_else(|| message.get("text")) {
        Some(Value::Array(parts)) => parts,
        Some(Value::Null) | None => &[],
        Some(part) => std::slice::from_ref(part),
    }
}

fn part_text(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        part => part.get("text")?.as_str(),
    }
}

/// Version 1 gives a call's arguments as an object, and no id.
fn tool_calls(message: &Value) -> Vec<ToolCall> {
    let calls = list(message, "tool_calls").iter();
    calls
        .map(|call| {
            let function = call.get("function").unwrap_or(call);
            ToolCall {
                id: text(call, "id").map(Into::into),
                name: text(function, "name").unwrap_or_default().into(),
                arguments: arguments(function.get("arguments").or_else(|| function.get("parameters"))),
            }
        })
        .collect()
}

/// What the model read and wrote; where that is not told (embeddings, old answers), what is billed, which leaves
/// Cohere's own prompt out.
fn usage(body: &Value) -> Usage {
    let usage = body.get("usage").or_else(|| body.get("meta")).unwrap_or(&Value::Null);
    let counts = [usage.get("tokens"), usage.get("billed_units")];
    let count = |key: &str| counts.into_iter().flatten().find_map(|counts| integer(counts, key));
    Usage {
        input: count("input_tokens"),
        cached: integer(usage, "cached_tokens"),
        output: count("output_tokens"),
        ..Usage::default()
    }
}

/// Whether a stream's event carries text, thinking, a plan or a part of a tool call.
pub(super) fn carries_output(event: &Event<'_>) -> bool {
    super::json::parse(&event.data).is_ok_and(|data| has_output(&event.name, &data))
}

fn has_output(name: &str, data: &Value) -> bool {
    let kind = text(data, "type").or_else(|| text(data, "event_type"));
    let piece = data.pointer("/delta/message").unwrap_or(data);
    let content = piece.get("content").unwrap_or(piece);
    let says_something = ["text", "thinking"].iter().any(|key| text(content, key).is_some());
    match kind.unwrap_or(name) {
        "stream-end" => false,
        // A tool's name is output too.
        "tool-call-start" | "tool-call-delta" | "tool-calls-chunk" | "tool-calls-generation" => true,
        _ => says_something || text(piece, "tool_plan").is_some(),
    }
}

#[cfg(test)]
mod tests;
