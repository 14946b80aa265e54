//! OpenAI chat as the others see it: its streams as a sequence of [`Delta`]s, and a whole answer written.

use serde_json::{Map, Value, json};

use crate::call::{Response, ToolCall, Usage};
use crate::check::is_failure;

mod asked;
mod order;
mod reader;
mod writer;

pub(super) use asked::{Asked, Choice, Format, Part, ToolResult, Turn};
pub(super) use reader::Reader;
pub(super) use writer::{Chunks, answer};

/// What one chunk of a chat stream adds, choice 0 alone. Reasoning is left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Delta {
    /// Comes once, before all others but an error.
    Start {
        /// The candidate's id of the answer, `chatcmpl-…`; empty where none was given.
        id: String,
    },
    /// More text; never empty.
    Text(String),
    /// More of a refusal; never empty.
    Refusal(String),
    /// A new tool call, with all that is known when its name is; calls are numbered from 0 without gaps. All of its
    /// arguments follow before the next call, text or refusal.
    ToolCall {
        /// Its place among the tool calls.
        index: usize,
        /// The candidate's id; empty where none was given.
        id: String,
        /// The tool's name; never empty.
        name: String,
    },
    /// More of the JSON text of a tool call's arguments; never empty, and none at all where there are no arguments.
    Arguments {
        /// Which call.
        index: usize,
        /// The piece.
        piece: String,
    },
    /// The finish word; see [`finish_word`]. The last delta of an answer that is whole.
    Finish(String),
    /// Tokens, mostly in the last chunk; a later one takes the place of an earlier one.
    Usage(Usage),
    /// An error inside the stream: the inner `error` value where there is one. Nothing follows it.
    Error(Value),
}

/// Chat's own word for the finish word of any API: `stop`, `length`, `tool_calls` or `content_filter`.
///
/// Servers say `stop` of answers with tool calls too; that an answer has some is told by the calls, not by the word.
pub(super) fn finish_word(word: &str, has_calls: bool) -> &'static str {
    match word.to_ascii_lowercase().as_str() {
        "length"
        | "max_tokens"
        | "max_output_tokens"
        | "model_length"
        | "model_context_window_exceeded"
        | "incomplete" => "length",
        "content_filter"
        | "content_filtered"
        | "refusal"
        | "guardrail_intervened"
        | "safety"
        | "image_safety"
        | "recitation"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "error_toxic" => "content_filter",
        blocked if blocked.starts_with("blocked:") => "content_filter",
        _ if has_calls => "tool_calls",
        _ => "stop",
    }
}

/// Why a whole chat answer is none that any API could give its client.
pub(super) fn fault(answer: &Response) -> Option<String> {
    let is_silent = answer.output_text.trim().is_empty() && answer.refusal.is_none();
    let mut calls = answer.tool_calls.iter().filter(|call| !call.is_padding());
    let says_nothing = is_silent && calls.clone().next().is_none();
    match &answer.finish_reason {
        _ if answer.choices == 0 => Some("it has no choices".into()),
        None => Some("it has no finish reason".into()),
        Some(word) if is_failure(word) => Some(gave_up(word)),
        _ if calls.any(|call| call.name.is_empty()) => Some(NAMELESS.into()),
        // A call without a name is read as none.
        Some(word) if says_calls(word) && says_nothing => Some(NO_CALL.into()),
        Some(_) => None,
    }
}

/// Whether a finish word says that tools are called.
pub(super) fn says_calls(finish_word: &str) -> bool {
    matches!(finish_word, "tool_calls" | "function_call" | "tool_use" | "TOOL_CALL")
}

pub(super) const NO_CALL: &str = "it says that it calls a tool, and calls none";
/// A baseline takes no such call back in its history.
pub(super) const NAMELESS: &str = "a tool call has no name";

pub(super) fn gave_up(word: &str) -> String {
    format!("its finish reason is `{word}`")
}

/// A whole answer as `chat.completion`, without reasoning.
pub(super) fn completion(id: &str, answer: &Response) -> Value {
    let has_calls = !answer.tool_calls.is_empty();
    let says_nothing = answer.output_text.is_empty() && (has_calls || answer.refusal.is_some());
    let mut message = json!({
        "role": "assistant",
        "content": if says_nothing { Value::Null } else { answer.output_text.as_str().into() },
        "refusal": answer.refusal,
    });
    if has_calls {
        message["tool_calls"] = answer.tool_calls.iter().map(tool_call).collect();
    }
    let finish_reason = answer.finish_reason.as_deref().map(|word| finish_word(word, has_calls));
    let mut completion = json!({
        "id": id,
        "object": "chat.completion",
        // When it was made is not known here, and clients ask for a number.
        "created": 0,
        "model": answer.model.as_deref().unwrap_or_default(),
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason}],
    });
    if answer.usage != Usage::default() {
        completion["usage"] = usage(&answer.usage);
    }
    completion
}

fn tool_call(call: &ToolCall) -> Value {
    json!({
        "id": call.id.as_deref().unwrap_or_default(),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}

/// Tokens in chat's words; what is not known is left out, never 0.
pub(super) fn usage(usage: &Usage) -> Value {
    let mut words = Map::new();
    let mut say = |key: &str, count: Option<i64>| {
        if let Some(count) = count {
            words.insert(key.into(), count.into());
        }
    };
    say("prompt_tokens", usage.input);
    say("completion_tokens", usage.output);
    say(
        "total_tokens",
        usage
            .input
            .zip(usage.output)
            .map(|(input, output)| input.saturating_add(output)),
    );
    let details = |counts: &[(&str, Option<i64>)]| -> Map<String, Value> {
        let known = counts.iter().filter_map(|(key, count)| Some((*key, (*count)?)));
        known.map(|(key, count)| (key.into(), count.into())).collect()
    };
    for (key, counts) in [
        (
            "prompt_tokens_details",
            details(&[
                ("cached_tokens", usage.cached),
                ("cache_write_tokens", usage.cache_write),
            ]),
        ),
        (
            "completion_tokens_details",
            details(&[("reasoning_tokens", usage.reasoning)]),
        ),
    ] {
        if !counts.is_empty() {
            words.insert(key.into(), counts.into());
        }
    }
    words.into()
}

#[cfg(test)]
pub(super) mod tests;
