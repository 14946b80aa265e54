//! OpenAI Responses and its dialects (Azure, xAI, DeepSeek, OpenRouter).
//!
//! The items of one turn are one message here. What the agent runs is a tool call, whoever defined the tool; what the
//! provider runs is kept apart, by item type.

use serde_json::Value;

use super::framing::Event;
use super::json::{arguments, integer, list, text};
use super::openai_chat::part_text;
use crate::call::{Response, ToolCall, Usage};

mod fold;
mod request;

pub(super) use fold::fold;
pub(super) use request::request;

/// What an item of input or output is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
    /// A call that the agent answers.
    Call,
    /// A call that the provider answers itself, or that loads tools, whoever looks for them.
    ServerCall,
    /// The agent's answer to a call.
    Output,
    /// References to stored items, compacted history, results of the provider's own calls.
    Opaque,
}

fn kind(item: &Value) -> Kind {
    match text(item, "type").unwrap_or_default() {
        "message" => Kind::Message,
        "" if item.get("role").is_some() => Kind::Message,
        "reasoning" => Kind::Reasoning,
        "function_call" | "custom_tool_call" | "computer_call" | "local_shell_call" | "apply_patch_call" => Kind::Call,
        // In a container it is the provider's, else the agent's.
        "shell_call" if !runs_in_container(item) => Kind::Call,
        "mcp_approval_response" => Kind::Output,
        kind if kind.ends_with("_output") && text(item, "call_id").is_some() => Kind::Output,
        kind if kind.ends_with("_call") || kind.starts_with("mcp_") => Kind::ServerCall,
        _ => Kind::Opaque,
    }
}

/// The kind of an item of `body`, a request or an answer: both say which tools are offered.
fn kind_in(body: &Value, item: &Value) -> Kind {
    match kind(item) {
        Kind::Call if is_search_of_x(body, item) => Kind::ServerCall,
        kind => kind,
    }
}

/// xAI shows its own searches of X as calls of custom tools that nobody offered.
fn is_search_of_x(body: &Value, item: &Value) -> bool {
    let offers = |kind: &str| list(body, "tools").iter().any(|tool| text(tool, "type") == Some(kind));
    text(item, "type") == Some("custom_tool_call") && offers("x_search") && !offers("custom")
}

fn runs_in_container(item: &Value) -> bool {
    let environment = item
        .get("environment")
        .and_then(|environment| text(environment, "type"));
    environment.is_some_and(|environment| environment.starts_with("container"))
}

/// A call of [`Kind::Call`]; one of the provider's own kinds is named by it.
fn tool_call(item: &Value) -> ToolCall {
    let name = text(item, "name").or_else(|| text(item, "type"));
    let given = ["arguments", "input", "action", "operation"];
    ToolCall {
        id: text(item, "call_id").or_else(|| text(item, "id")).map(Into::into),
        name: name.unwrap_or_default().into(),
        arguments: arguments(given.iter().find_map(|key| item.get(key))),
    }
}

/// Reads a response object.
pub(super) fn response(body: &Value) -> Response {
    let output = list(body, "output");
    let of_kind = |wanted: Kind| output.iter().filter(move |item| kind_in(body, item) == wanted);
    let content = || of_kind(Kind::Message).flat_map(|item| list(item, "content"));
    let reasoning: Vec<&str> = of_kind(Kind::Reasoning).flat_map(thoughts).collect();
    let incomplete = body
        .get("incomplete_details")
        .and_then(|details| text(details, "reason"));
    Response {
        id: text(body, "id").map(Into::into),
        model: text(body, "model").map(Into::into),
        output_text: content().filter_map(part_text).collect(),
        reasoning_text: reasoning.join("\n"),
        refusal: content().find_map(|part| text(part, "refusal")).map(Into::into),
        tool_calls: of_kind(Kind::Call).map(tool_call).collect(),
        server_tool_calls: of_kind(Kind::ServerCall)
            .filter_map(server_tool)
            .map(Into::into)
            .collect(),
        finish_reason: incomplete.or_else(|| text(body, "status")).map(Into::into),
        choices: usize::from(body.get("output").is_some_and(Value::is_array)),
        usage: body.get("usage").map(usage).unwrap_or_default(),
        ..Response::default()
    }
}

/// A server-side tool's type, which tells more than the name of what it did.
fn server_tool(item: &Value) -> Option<&str> {
    let kind = text(item, "type")?;
    if kind == "custom_tool_call" {
        text(item, "name")
    } else {
        Some(kind)
    }
}

/// The reasoning of an item: itself where the provider shows it, else its summary.
fn thoughts(item: &Value) -> impl Iterator<Item = &str> {
    let shown = list(item, "content");
    let thoughts = if shown.is_empty() { list(item, "summary") } else { shown };
    thoughts.iter().filter_map(|thought| text(thought, "text"))
}

fn usage(usage: &Value) -> Usage {
    let input = usage.get("input_tokens_details").unwrap_or(&Value::Null);
    let output = usage.get("output_tokens_details").unwrap_or(&Value::Null);
    Usage {
        input: integer(usage, "input_tokens"),
        cached: integer(input, "cached_tokens"),
        cache_write: integer(input, "cache_write_tokens"),
        output: integer(usage, "output_tokens"),
        reasoning: integer(output, "reasoning_tokens"),
    }
}

/// Whether a stream's event carries text, reasoning, a refusal or a part of a tool call.
pub(super) fn carries_output(event: &Event<'_>) -> bool {
    super::json::parse(&event.data).is_ok_and(|data| fold::has_output(&data))
}

#[cfg(test)]
mod tests;
