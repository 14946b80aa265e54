//! OpenAI Chat Completions and its dialects (Azure, Groq, Mistral, DeepSeek, OpenRouter, vLLM, …).
//!
//! Reads what any of them sends by one set of rules; never asks which of them it is.

use serde_json::Value;

use super::framing::Event;
use super::json::{arguments, integer, list, text};
use crate::call::{Message, Operation, Request, Response, ResponseFormat, Role, ToolCall, ToolOffered};

mod fold;
pub(super) mod grow;
mod places;
mod usage;

pub(super) use fold::{fold, fold_to};
pub(crate) use places::Places;
pub(crate) use usage::usage;

/// Under which keys the dialects show reasoning.
pub(super) const REASONING_KEYS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// Reads a request object.
pub(crate) fn request(body: &Value) -> Request {
    let functions = list(body, "functions").iter().map(offered_function);
    Request {
        operation: Operation::Chat,
        model: text(body, "model").map(Into::into),
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        messages: list(body, "messages").iter().map(message).collect(),
        tools: list(body, "tools").iter().map(offered_tool).chain(functions).collect(),
        response_format: body.get("response_format").map(response_format).unwrap_or_default(),
        max_tokens: integer(body, "max_completion_tokens").or_else(|| integer(body, "max_tokens")),
        temperature: body.get("temperature").and_then(Value::as_f64),
        user: text(body, "user")
            .or_else(|| text(body, "safety_identifier"))
            .map(Into::into),
        previous_response_id: None,
    }
}

fn message(message: &Value) -> Message {
    Message {
        tool_calls: tool_calls(message),
        tool_call_id: text(message, "tool_call_id").map(Into::into),
        ..message_of(role(message), parts(message, "content"))
    }
}

/// Who speaks; a role that we don't know is taken for the agent's side.
pub(super) fn role(message: &Value) -> Role {
    match text(message, "role").unwrap_or_default() {
        "system" | "developer" => Role::System,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::User,
    }
}

/// A message of these content parts.
pub(super) fn message_of(role: Role, parts: &[Value]) -> Message {
    let texts: Vec<&str> = parts.iter().filter_map(part_text).collect();
    let separator = if role == Role::Assistant { "" } else { "\n" };
    Message {
        media_parts: parts.iter().filter(|part| is_media(part)).count() as u32,
        ..Message::text(role, texts.join(separator))
    }
}

/// Content as parts, whether it is a string, a list, one part, or null.
pub(crate) fn parts<'a>(message: &'a Value, key: &str) -> &'a [Value] {
    match message.get(key) {
        Some(Value::Array(parts)) => parts,
        Some(Value::Null) | None => &[],
        Some(part) => std::slice::from_ref(part),
    }
}

/// A part's text; reasoning and refusals are no text of the message.
pub(crate) fn part_text(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        part if matches!(text(part, "type"), Some("thinking" | "reasoning" | "refusal")) => None,
        part => part.get("text")?.as_str(),
    }
}

/// Parts of an unknown kind count as media: text has a `text`, and what is neither has a name of its own.
fn is_media(part: &Value) -> bool {
    let kind = text(part, "type").unwrap_or_default();
    let is_known = matches!(kind, "" | "text" | "thinking" | "reasoning" | "refusal" | "reference");
    part.is_object() && part_text(part).is_none() && !is_known
}

/// A tool offered, its function nested (chat) or flat (Responses).
pub(super) fn offered_tool(tool: &Value) -> ToolOffered {
    let kind = text(tool, "type").unwrap_or_default();
    match tool.get("function").or_else(|| tool.get("custom")) {
        Some(function) => offered_function(function),
        // A provider-side tool; a few dialects also take functions flat.
        None => ToolOffered {
            name: text(tool, "name").unwrap_or(kind).into(),
            ..offered_function(tool)
        },
    }
}

fn offered_function(function: &Value) -> ToolOffered {
    ToolOffered {
        name: text(function, "name").unwrap_or_default().into(),
        description: text(function, "description").map(Into::into),
        schema: function.get("parameters").cloned().unwrap_or_default(),
    }
}

/// The format asked for, its schema nested (chat) or flat (Responses).
pub(super) fn response_format(format: &Value) -> ResponseFormat {
    match text(format, "type") {
        Some("json_object") => ResponseFormat::JsonObject,
        Some("json_schema") => {
            let named = format.get("json_schema").unwrap_or(format);
            ResponseFormat::JsonSchema(named.get("schema").cloned().unwrap_or_default())
        }
        _ => ResponseFormat::Text,
    }
}

/// The calls of an assistant message, padding included ([`ToolCall::is_padding`]).
fn tool_calls(message: &Value) -> Vec<ToolCall> {
    let listed = list(message, "tool_calls").iter();
    let legacy = message
        .get("function_call")
        .filter(|call| call.is_object())
        .map(|call| tool_call(None, call));
    listed
        .map(|call| {
            let id = text(call, "id").map(Into::into);
            let named = |key: &str| call.get(key).filter(|function| text(function, "name").is_some());
            tool_call(id, named("function").or_else(|| named("custom")).unwrap_or(call))
        })
        .chain(legacy)
        .collect()
}

fn tool_call(id: Option<String>, function: &Value) -> ToolCall {
    let given = function.get("arguments").or_else(|| function.get("input"));
    ToolCall {
        id,
        name: text(function, "name").unwrap_or_default().into(),
        arguments: arguments(given),
    }
}

/// Reads a response object.
pub(super) fn response(body: &Value) -> Response {
    let choices = list(body, "choices");
    let first = choices.iter().find(|choice| integer(choice, "index") == Some(0));
    let choice = first.or(choices.first()).unwrap_or(&Value::Null);
    let message = choice.get("message").unwrap_or(&Value::Null);
    let content = parts(message, "content");
    let refusals = content.iter().filter_map(|part| text(part, "refusal"));
    Response {
        id: text(body, "id").map(Into::into),
        model: text(body, "model").map(Into::into),
        output_text: content.iter().filter_map(part_text).collect(),
        reasoning_text: reasoning_text(message, content),
        refusal: text(message, "refusal")
            .into_iter()
            .chain(refusals)
            .next()
            .map(Into::into),
        tool_calls: tool_calls(message),
        finish_reason: choice.get("finish_reason").and_then(Value::as_str).map(Into::into),
        choices: choices.len(),
        usage: usage(body, choice),
        ..Response::default()
    }
}

fn reasoning_text(message: &Value, content: &[Value]) -> String {
    if let Some(reasoning) = REASONING_KEYS.iter().find_map(|key| text(message, key)) {
        return reasoning.into();
    }
    // Mistral's parts `{type: "thinking", thinking: [{type: "text", text}]}`; others show summaries.
    let is_thought = |part: &&Value| matches!(text(part, "type"), Some("thinking" | "reasoning"));
    let thoughts = content
        .iter()
        .filter(is_thought)
        .chain(list(message, "reasoning_details"));
    let mut reasoning = String::new();
    for thought in thoughts {
        let whole = ["text", "thinking", "summary"]
            .iter()
            .find_map(|key| text(thought, key));
        let pieces = ["thinking", "summary"].iter().flat_map(|key| list(thought, key));
        reasoning.extend(whole.into_iter().chain(pieces.filter_map(part_text)));
    }
    reasoning
}

/// Whether a stream's chunk carries text, reasoning, a refusal or a part of a tool call.
pub(super) fn carries_output(event: &Event<'_>) -> bool {
    super::json::parse(&event.data).is_ok_and(|chunk| has_output(&chunk))
}

fn has_output(chunk: &Value) -> bool {
    let says_something = |delta: &Value| {
        let has_text = ["content", "refusal"].iter().any(|key| text(delta, key).is_some());
        let has_items = ["content", "tool_calls"].iter().any(|key| !list(delta, key).is_empty());
        let function = delta.get("function_call").unwrap_or(&Value::Null);
        let has_function = ["name", "arguments"].iter().any(|key| text(function, key).is_some());
        has_text || has_items || has_function || !reasoning_text(delta, &[]).is_empty()
    };
    list(chunk, "choices")
        .iter()
        .filter_map(fold::delta)
        .any(says_something)
}

#[cfg(test)]
mod tests;
