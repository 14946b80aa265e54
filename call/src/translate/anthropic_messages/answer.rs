//! A whole chat answer as an Anthropic message.

use serde_json::{Value, json};

use super::super::chat::finish_word;
use super::super::ids::{CallIds, is_tool_name};
use super::super::{Back, Refusal, tool_calls};
use crate::call::{Response, ToolCall, Usage};

/// A chat answer in this API.
pub(in super::super) fn answer(back: &Back, id: &str, answer: &Response) -> Result<Value, Refusal> {
    let has_calls = !answer.tool_calls.is_empty();
    let reason = stop_reason(
        answer.finish_reason.as_deref().unwrap_or_default(),
        has_calls,
        answer.refusal.is_some(),
    );
    let texts = [Some(answer.output_text.as_str()), answer.refusal.as_deref()];
    // The API takes no blank text back.
    let texts = texts.into_iter().flatten().filter(|text| !text.trim().is_empty());
    let mut content: Vec<Value> = texts.map(|text| json!({"type": "text", "text": text})).collect();
    let mut ids = CallIds::of_history(&back.request);
    for (index, call) in answer.tool_calls.iter().enumerate() {
        match input(call) {
            Some(input) => {
                let id = ids.next(call.id.as_deref().unwrap_or_default(), index);
                content.push(json!({"type": "tool_use", "id": id, "name": call.name, "input": input}));
            }
            // Cut off with the answer: it can't be called.
            None if reason == "max_tokens" && is_tool_name(&call.name) => {}
            None => {
                return Err(Refusal::Inexpressible {
                    at: format!("choices[0].message.tool_calls[{index}]"),
                    what: "a tool call must have a plain name and an object of arguments".into(),
                });
            }
        }
    }
    let mut message = opening(back, id);
    message["content"] = content.into();
    message["stop_reason"] = reason.into();
    message["usage"] = usage(&answer.usage);
    Ok(message)
}

/// The arguments of a call that the API can say.
fn input(call: &ToolCall) -> Option<Value> {
    let input = tool_calls::arguments(call).filter(|_| is_tool_name(&call.name))?;
    Some(Value::Object(input))
}

/// A message before anything is said.
pub(super) fn opening(back: &Back, id: &str) -> Value {
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": back.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    })
}

/// Why an answer stopped, in the API's words.
pub(super) fn stop_reason(finish: &str, has_calls: bool, is_refused: bool) -> &'static str {
    match finish_word(finish, has_calls) {
        "length" => "max_tokens",
        "content_filter" => "refusal",
        "tool_calls" => "tool_use",
        _ if is_refused => "refusal",
        _ => "end_turn",
    }
}

/// The API counts cached input apart, and its clients ask for both totals: what is not known is 0.
pub(super) fn usage(usage: &Usage) -> Value {
    let cached = usage.cached.unwrap_or(0);
    let cache_write = usage.cache_write.unwrap_or(0);
    let input = usage.input.unwrap_or(0);
    json!({
        "input_tokens": input.saturating_sub(cached).saturating_sub(cache_write).max(0),
        "cache_creation_input_tokens": cache_write,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output.unwrap_or(0),
    })
}
