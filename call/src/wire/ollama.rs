//! Ollama's native chat, generate and embed.
//!
//! A stream is answered in lines, and is what one gets who asks for nothing. Thinking is kept apart from text.

use serde_json::{Map, Value};

use super::framing::{Event, Events};
use super::json::{arguments, integer, list, text};
use super::{Assembled, json};
use crate::call::{Message, Operation, Request, Response, ResponseFormat, Role, ToolCall, ToolOffered, Usage};

/// Reads a request object of chat, generate or embed. A prompt, and each text to embed, is a user's message.
pub(super) fn request(body: &Value) -> Request {
    let options = body.get("options").unwrap_or(&Value::Null);
    let system = text(body, "system").map(|system| Message::text(Role::System, system));
    let prompt = body.get("prompt").and_then(Value::as_str).map(|prompt| Message {
        media_parts: list(body, "images").len() as u32,
        ..Message::text(Role::User, prompt)
    });
    let to_embed = match body.get("input") {
        Some(Value::Array(texts)) => texts,
        Some(text) => std::slice::from_ref(text),
        None => &[],
    };
    let to_embed = to_embed.iter().filter_map(Value::as_str);
    Request {
        operation: Operation::Chat,
        model: text(body, "model").map(Into::into),
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(true),
        messages: system
            .into_iter()
            .chain(list(body, "messages").iter().map(message))
            .chain(prompt)
            .chain(to_embed.map(|text| Message::text(Role::User, text)))
            .collect(),
        tools: list(body, "tools").iter().map(offered_tool).collect(),
        response_format: body.get("format").map(response_format).unwrap_or_default(),
        // Negative: no limit.
        max_tokens: integer(options, "num_predict").filter(|most| *most >= 0),
        temperature: options.get("temperature").and_then(Value::as_f64),
        user: None,
        previous_response_id: None,
    }
}

/// A tool's result names its tool; only newer servers give calls an id.
fn message(message: &Value) -> Message {
    let role = match text(message, "role").unwrap_or_default() {
        "system" => Role::System,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => Role::User,
    };
    Message {
        tool_calls: tool_calls(message),
        tool_call_id: text(message, "tool_call_id").map(Into::into),
        media_parts: list(message, "images").len() as u32,
        ..Message::text(role, text(message, "content").unwrap_or_default())
    }
}

fn tool_calls(message: &Value) -> Vec<ToolCall> {
    let calls = list(message, "tool_calls").iter();
    calls
        .filter_map(|call| {
            let function = call.get("function")?;
            Some(ToolCall {
                id: text(call, "id").map(Into::into),
                name: text(function, "name").unwrap_or_default().into(),
                arguments: arguments(function.get("arguments")),
            })
        })
        .collect()
}

fn offered_tool(tool: &Value) -> ToolOffered {
    let function = tool.get("function").unwrap_or(tool);
    ToolOffered {
        name: text(function, "name").unwrap_or_default().into(),
        description: text(function, "description").map(Into::into),
        schema: function.get("parameters").cloned().unwrap_or_default(),
    }
}

/// `json`, or a schema, or the empty text that clients send for none.
fn response_format(format: &Value) -> ResponseFormat {
    match format {
        Value::String(name) if name == "json" => ResponseFormat::JsonObject,
        Value::Object(_) => ResponseFormat::JsonSchema(format.clone()),
        _ => ResponseFormat::Text,
    }
}

/// Reads a response object: chat answers with a `message`, generate with a `response`.
pub(super) fn response(body: &Value) -> Response {
    let message = body.get("message").filter(|message| message.is_object());
    let is_answer = message.is_some() || body.get("response").is_some_and(Value::is_string);
    let answer = message.unwrap_or(body);
    Response {
        model: text(body, "model").map(Into::into),
        output_text: said(body).unwrap_or_default().into(),
        reasoning_text: text(answer, "thinking").unwrap_or_default().into(),
        tool_calls: tool_calls(answer),
        finish_reason: text(body, "done_reason").map(Into::into),
        choices: usize::from(is_answer),
        usage: Usage {
            input: integer(body, "prompt_eval_count"),
            output: integer(body, "eval_count"),
            ..Usage::default()
        },
        ..Response::default()
    }
}

fn said(body: &Value) -> Option<&str> {
    match body.get("message") {
        Some(message) => text(message, "content"),
        None => text(body, "response"),
    }
}

/// Whether a stream's line carries text, thinking or a call.
pub(super) fn carries_output(event: &Event<'_>) -> bool {
    json::parse(&event.data).is_ok_and(|line| {
        let answer = line.get("message").unwrap_or(&line);
        said(&line).is_some() || text(answer, "thinking").is_some() || !list(answer, "tool_calls").is_empty()
    })
}

/// Folds the lines of a stream to the answer that they add up to; the last one says that it is done, and the figures.
pub(super) fn fold(events: Events<'_>) -> Assembled {
    let mut assembled = Assembled {
        streamed: true,
        partial: true,
        ..Assembled::default()
    };
    let mut whole = Map::new();
    for event in events {
        match json::parse(&event.data) {
            Ok(Value::Object(mut line)) if !event.oversize => {
                if let Some(error) = line.remove("error").filter(|error| !error.is_null()) {
                    assembled.error = Some(error);
                }
                assembled.partial &= line.get("done") != Some(&Value::Bool(true));
                take_line(&mut whole, line);
            }
            _ => assembled.skipped_events += 1,
        }
    }
    if let Some(error) = assembled.error.as_ref().filter(|_| whole.is_empty()) {
        whole.insert("error".into(), error.clone());
    }
    assembled.body = Value::Object(whole);
    assembled
}

fn take_line(whole: &mut Map<String, Value>, line: Map<String, Value>) {
    for (key, value) in line {
        match (key.as_str(), value) {
            ("message", Value::Object(message)) => {
                let whole = whole.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(whole) = whole {
                    message.into_iter().for_each(|(key, value)| grow(whole, key, value));
                }
            }
            (_, value) => grow(whole, key, value),
        }
    }
}

/// Text and lists grow, all else is set.
fn grow(whole: &mut Map<String, Value>, key: String, value: Value) {
    let grows = matches!(
        key.as_str(),
        "content" | "thinking" | "response" | "tool_calls" | "images" | "logprobs"
    );
    match (whole.get_mut(&key), value) {
        (_, Value::Null) => {}
        (Some(Value::String(text)), Value::String(more)) if grows => text.push_str(&more),
        (Some(Value::Array(items)), Value::Array(more)) if grows => items.extend(more),
        (_, value) => {
            whole.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests;
