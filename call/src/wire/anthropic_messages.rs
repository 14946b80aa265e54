//! Anthropic Messages, its token counts, and the legacy Complete; and the servers that speak them (Vertex among them).
//!
//! Thinking, and tools that the provider runs itself, are kept apart from text and tool calls.

use serde_json::Value;

use super::json::{arguments, integer, list, text};
use crate::call::{Message, Operation, Request, Response, ResponseFormat, Role, ToolCall, ToolOffered, Usage};

mod fold;

pub(super) use fold::{carries_output, fold};

/// Reads a request object. The top-level `system` becomes the first message; each tool result one of its own.
pub(super) fn request(body: &Value) -> Request {
    let mut messages = Vec::new();
    if let Some(system) = body.get("system").filter(|system| !system.is_null()) {
        messages.push(Message::text(Role::System, joined_text(blocks(system))));
    }
    for message in list(body, "messages") {
        push_messages(&mut messages, message);
    }
    // The legacy API has one text, turns marked in it.
    messages.extend(text(body, "prompt").map(|prompt| Message::text(Role::User, prompt)));
    Request {
        operation: Operation::Chat,
        model: text(body, "model").map(Into::into),
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        messages,
        tools: list(body, "tools").iter().map(offered_tool).collect(),
        response_format: response_format(body),
        max_tokens: integer(body, "max_tokens").or_else(|| integer(body, "max_tokens_to_sample")),
        temperature: body.get("temperature").and_then(Value::as_f64),
        user: body
            .get("metadata")
            .and_then(|metadata| text(metadata, "user_id"))
            .map(Into::into),
        previous_response_id: None,
    }
}

/// Tool results come first in a user's message, as the API asks, and stay in front of its text.
fn push_messages(messages: &mut Vec<Message>, message: &Value) {
    let blocks = message.get("content").map(blocks).unwrap_or_default();
    let (results, others): (Vec<&Value>, Vec<&Value>) = blocks
        .iter()
        .partition(|block| text(block, "type") == Some("tool_result"));
    messages.extend(results.iter().map(|result| tool_result(result)));
    if others.is_empty() && !results.is_empty() {
        return;
    }
    let role = match text(message, "role").unwrap_or_default() {
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => Role::User,
    };
    let text = match role {
        Role::Assistant => others.iter().filter_map(|block| block_text(block)).collect(),
        _ => joined_text(others.iter().copied()),
    };
    messages.push(Message {
        tool_calls: tool_calls(others.iter().copied()),
        media_parts: count_media(others.iter().copied()),
        ..Message::text(role, text)
    });
}

fn tool_result(result: &Value) -> Message {
    let content = result.get("content").map(blocks).unwrap_or_default();
    Message {
        tool_call_id: text(result, "tool_use_id").map(Into::into),
        media_parts: count_media(content),
        ..Message::text(Role::Tool, joined_text(content))
    }
}

/// Content as blocks, whether it is a string, a list or one block.
fn blocks(content: &Value) -> &[Value] {
    match content {
        Value::Array(blocks) => blocks,
        Value::Null => &[],
        block => std::slice::from_ref(block),
    }
}

fn block_text(block: &Value) -> Option<&str> {
    match block {
        Value::String(text) => Some(text),
        block if text(block, "type") == Some("text") => block.get("text")?.as_str(),
        _ => None,
    }
}

fn joined_text<'a>(blocks: impl IntoIterator<Item = &'a Value>) -> String {
    let texts: Vec<&str> = blocks.into_iter().filter_map(block_text).collect();
    texts.join("\n")
}

fn count_media<'a>(blocks: impl IntoIterator<Item = &'a Value>) -> u32 {
    let is_media = |block: &&Value| {
        matches!(
            text(block, "type"),
            Some("image" | "document" | "container_upload" | "audio" | "video")
        )
    };
    blocks.into_iter().filter(is_media).count() as u32
}

fn tool_calls<'a>(blocks: impl IntoIterator<Item = &'a Value>) -> Vec<ToolCall> {
    let uses = blocks
        .into_iter()
        .filter(|block| text(block, "type") == Some("tool_use"));
    uses.map(|tool_use| ToolCall {
        id: text(tool_use, "id").map(Into::into),
        name: text(tool_use, "name").unwrap_or_default().into(),
        arguments: arguments(tool_use.get("input")),
    })
    .collect()
}

fn offered_tool(tool: &Value) -> ToolOffered {
    let name = text(tool, "name").or_else(|| text(tool, "type"));
    ToolOffered {
        name: name.unwrap_or_default().into(),
        description: text(tool, "description").map(Into::into),
        schema: tool.get("input_schema").cloned().unwrap_or_default(),
    }
}

/// `output_config.format`, or `output_format` as it was called in beta.
fn response_format(body: &Value) -> ResponseFormat {
    let format = body
        .pointer("/output_config/format")
        .or_else(|| body.get("output_format"));
    match format.and_then(|format| format.get("schema")) {
        Some(schema) => ResponseFormat::JsonSchema(schema.clone()),
        None => ResponseFormat::Text,
    }
}

/// Reads a response object: a message, a legacy completion, or a count of tokens.
pub(super) fn response(body: &Value) -> Response {
    let blocks = list(body, "content");
    let completion = body.get("completion").and_then(Value::as_str);
    let is_answer = completion.is_some() || body.get("content").is_some_and(Value::is_array);
    let of_kind = |kind: &'static str| blocks.iter().filter(move |block| text(block, "type") == Some(kind));
    let is_server_tool = |block: &&Value| matches!(text(block, "type"), Some("server_tool_use" | "mcp_tool_use"));
    let server_tools = blocks.iter().filter(is_server_tool);
    Response {
        id: text(body, "id").map(Into::into),
        model: text(body, "model").map(Into::into),
        output_text: blocks.iter().filter_map(block_text).chain(completion).collect(),
        reasoning_text: of_kind("thinking")
            .filter_map(|block| text(block, "thinking"))
            .collect(),
        tool_calls: tool_calls(blocks),
        server_tool_calls: server_tools
            .filter_map(|block| text(block, "name"))
            .map(Into::into)
            .collect(),
        finish_reason: text(body, "stop_reason").map(Into::into),
        choices: usize::from(is_answer),
        // A count of tokens is its own usage.
        usage: usage(body.get("usage").unwrap_or(body)),
        ..Response::default()
    }
}

/// `input_tokens` leaves cache reads and writes out; the normal form includes them.
fn usage(usage: &Value) -> Usage {
    let cached = integer(usage, "cache_read_input_tokens");
    let cache_write = integer(usage, "cache_creation_input_tokens");
    let all_input = |fresh: i64| {
        fresh
            .saturating_add(cached.unwrap_or(0))
            .saturating_add(cache_write.unwrap_or(0))
    };
    Usage {
        input: integer(usage, "input_tokens").map(all_input),
        cached,
        cache_write,
        output: integer(usage, "output_tokens"),
        reasoning: usage
            .get("output_tokens_details")
            .and_then(|details| integer(details, "thinking_tokens")),
    }
}

#[cfg(test)]
mod tests;
