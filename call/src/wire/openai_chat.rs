//! OpenAI Chat Completions and its dialects (Azure, Groq, Mistral, DeepSeek, OpenRouter, vLLM, …).
//!
//! Reads what any of them sends by one set of rules; never asks which of them it is.

use serde_json::Value;

use super::framing::Event;
use super::json::{arguments, integer, list, text};
use crate::call::{Message, Operation, Request, Response, ResponseFormat, Role, ToolCall, ToolOffered, Usage};

mod fold;

pub(super) use fold::fold;

/// Under which keys the dialects show reasoning.
const REASONING_KEYS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// Reads a request object.
pub(super) fn request(body: &Value) -> Request {
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
    let role = match text(message, "role").unwrap_or_default() {
        "system" | "developer" => Role::System,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::User,
    };
    let parts = parts(message);
    let texts: Vec<&str> = parts.iter().filter_map(part_text).collect();
    Message {
        role,
        text: texts.join("\n"),
        tool_calls: tool_calls(message),
        tool_call_id: text(message, "tool_call_id").map(Into::into),
        media_parts: parts.iter().filter(|part| is_media(part)).count() as u32,
    }
}

/// A message's content as parts, whether it is a string, a list, one part, or null.
fn parts(message: &Value) -> &[Value] {
    match message.get("content") {
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

/// Parts of an unknown kind count as media: text has a `text`, and reasoning and refusals have names of their own.
fn is_media(part: &Value) -> bool {
    let kind = text(part, "type").unwrap_or_default();
    part.is_object() && part_text(part).is_none() && !matches!(kind, "" | "text" | "thinking" | "refusal")
}

fn offered_tool(tool: &Value) -> ToolOffered {
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

fn response_format(format: &Value) -> ResponseFormat {
    match text(format, "type") {
        Some("json_object") => ResponseFormat::JsonObject,
        Some("json_schema") => {
            let named = format.get("json_schema").unwrap_or(format);
            ResponseFormat::JsonSchema(named.get("schema").cloned().unwrap_or_default())
        }
        _ => ResponseFormat::Text,
    }
}

/// The calls of an assistant message; one with neither name nor arguments, as Snowflake pads its messages, is none.
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
        .filter(|call| !call.name.is_empty() || call.arguments != "{}")
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
    let nothing = Value::Null;
    let choice = choices.first().unwrap_or(&nothing);
    let message = choice.get("message").unwrap_or(&nothing);
    Response {
        id: text(body, "id").map(Into::into),
        model: text(body, "model").map(Into::into),
        output_text: parts(message).iter().filter_map(part_text).collect(),
        reasoning_text: reasoning_text(message),
        refusal: text(message, "refusal").map(Into::into),
        tool_calls: tool_calls(message),
        finish_reason: choice.get("finish_reason").and_then(Value::as_str).map(Into::into),
        choices: choices.len(),
        usage: usage(body, choice),
        ..Response::default()
    }
}

fn reasoning_text(message: &Value) -> String {
    if let Some(reasoning) = REASONING_KEYS.iter().find_map(|key| text(message, key)) {
        return reasoning.into();
    }
    // Mistral: parts `{type: "thinking", thinking: [{type: "text", text}]}`.
    let thoughts = parts(message).iter().flat_map(|part| list(part, "thinking"));
    let details = list(message, "reasoning_details");
    thoughts.chain(details).filter_map(part_text).collect()
}

/// Usage lies at the top; Groq's streams have it under `x_groq`, Moonshot's in the choice.
fn usage(body: &Value, choice: &Value) -> Usage {
    let places = [body.get("usage"), body.pointer("/x_groq/usage"), choice.get("usage")];
    let Some(usage) = places.into_iter().flatten().find(|usage| usage.is_object()) else {
        return Usage::default();
    };
    let prompt = usage.get("prompt_tokens_details").unwrap_or(&Value::Null);
    let completion = usage.get("completion_tokens_details").unwrap_or(&Value::Null);
    Usage {
        input: integer(usage, "prompt_tokens"),
        cached: integer(prompt, "cached_tokens").or_else(|| integer(usage, "prompt_cache_hit_tokens")),
        cache_write: integer(prompt, "cache_write_tokens"),
        output: integer(usage, "completion_tokens"),
        reasoning: integer(completion, "reasoning_tokens"),
    }
}

/// Whether a stream's chunk carries text, reasoning, a refusal or a part of a tool call.
pub(super) fn carries_output(event: &Event<'_>) -> bool {
    super::json::parse(&event.data).is_ok_and(|chunk| has_output(&chunk))
}

fn has_output(chunk: &Value) -> bool {
    let deltas = list(chunk, "choices").iter().filter_map(fold::delta);
    deltas.into_iter().any(|delta| {
        let has_text = REASONING_KEYS
            .iter()
            .chain(&["content", "refusal"])
            .any(|key| text(delta, key).is_some());
        let has_items = ["content", "tool_calls"].iter().any(|key| !list(delta, key).is_empty());
        has_text || has_items || delta.get("function_call").is_some_and(Value::is_object)
    })
}

#[cfg(test)]
mod tests;
