//! Bedrock Converse, and the token counts beside it. Nova's own format is the same but for a few names.
//!
//! Reasoning, and tools that the provider runs itself, are kept apart from text and tool calls.

use serde_json::Value;

use super::json::{arguments, integer, list, text};
use crate::call::{Response, ToolCall, Usage};

mod fold;
mod request;

pub(super) use fold::{Fold, carries_output, fold, has_output};
pub use request::open_request_to_count;
pub(super) use request::{conversation, request};

/// Reads a response object: an answer, or a count of tokens.
pub(super) fn response(body: &Value) -> Response {
    let message = body.pointer("/output/message");
    let blocks = message.map_or(&[][..], |message| list(message, "content"));
    let (server_uses, uses): (Vec<&Value>, Vec<&Value>) = blocks
        .iter()
        .filter_map(|block| block.get("toolUse"))
        .partition(|tool_use| is_server_tool(tool_use));
    let reasoning = blocks
        .iter()
        .filter_map(|block| block.pointer("/reasoningContent/reasoningText"));
    Response {
        output_text: blocks.iter().flat_map(texts).collect(),
        reasoning_text: reasoning.filter_map(|reasoning| text(reasoning, "text")).collect(),
        tool_calls: uses.into_iter().map(tool_call).collect(),
        server_tool_calls: server_uses
            .into_iter()
            .filter_map(|tool_use| text(tool_use, "name"))
            .map(Into::into)
            .collect(),
        finish_reason: text(body, "stopReason").map(Into::into),
        choices: usize::from(message.is_some_and(Value::is_object)),
        // A count of tokens is its own usage.
        usage: usage(body.get("usage").unwrap_or(body)),
        ..Response::default()
    }
}

/// What a content block says in words: its text, text with citations, or text that a guardrail is to look at.
fn texts(block: &Value) -> Vec<&str> {
    let cited = block
        .get("citationsContent")
        .map_or(&[][..], |cited| list(cited, "content"));
    let found = block
        .get("searchResult")
        .map_or(&[][..], |found| list(found, "content"));
    let guarded = block.pointer("/guardContent/text");
    let parts = std::iter::once(block).chain(guarded).chain(cited).chain(found);
    parts.filter_map(|part| text(part, "text")).collect()
}

fn is_server_tool(tool_use: &Value) -> bool {
    text(tool_use, "type") == Some("server_tool_use")
}

fn tool_call(tool_use: &Value) -> ToolCall {
    ToolCall {
        id: text(tool_use, "toolUseId").map(Into::into),
        name: text(tool_use, "name").unwrap_or_default().into(),
        arguments: arguments(tool_use.get("input")),
    }
}

/// `inputTokens` leaves cache reads and writes out; the normal form includes them.
pub(super) fn usage(usage: &Value) -> Usage {
    let count = |name: &str| integer(usage, name);
    // Nova, and what Bedrock counts itself, have other names, and zeros also where nothing could be cached.
    let or_other = |name: &str| count(name).filter(|tokens| *tokens > 0);
    let cached = count("cacheReadInputTokens").or_else(|| or_other("cacheReadInputTokenCount"));
    let cache_write = count("cacheWriteInputTokens").or_else(|| or_other("cacheWriteInputTokenCount"));
    let fresh = count("inputTokens").or_else(|| count("inputTokenCount"));
    Usage {
        input: fresh.map(|fresh| all_input(fresh, cached, cache_write)),
        cached,
        cache_write,
        output: count("outputTokens").or_else(|| count("outputTokenCount")),
        reasoning: None,
    }
}

/// All input tokens, of those that are neither read from nor written to a cache.
pub(super) fn all_input(fresh: i64, cached: Option<i64>, cache_write: Option<i64>) -> i64 {
    let of_cache = cached.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
    fresh.saturating_add(of_cache)
}

#[cfg(test)]
mod tests;
