//! A whole chat answer as a response object.

use serde_json::{Value, json};

use super::super::chat::finish_word;
use super::super::ids::{CallIds, is_tool_name};
use super::super::{Back, Refusal};
use crate::call::{Response, Usage};

/// A chat answer in this API.
pub(in super::super) fn answer(back: &Back, id: &str, answer: &Response) -> Result<Value, Refusal> {
    let ending = Ending::of(answer.finish_reason.as_deref().unwrap_or_default());
    let mut output = Vec::new();
    let text = Some(answer.output_text.as_str()).filter(|text| !text.is_empty());
    let parts: Vec<Value> = [text.map(text_part), answer.refusal.as_deref().map(refusal_part)]
        .into_iter()
        .flatten()
        .collect();
    if !parts.is_empty() {
        output.push(message(parts, "completed"));
    }
    let mut ids = CallIds::of_history(&back.request);
    for (index, call) in answer.tool_calls.iter().enumerate() {
        if !is_tool_name(&call.name) {
            return Err(Refusal::Inexpressible {
                at: format!("choices[0].message.tool_calls[{index}].function.name"),
                what: "a tool call must have a plain name".into(),
            });
        }
        let call_id = ids.next(call.id.as_deref().unwrap_or_default(), index);
        output.push(function_call(&call_id, &call.name, &call.arguments, "completed"));
    }
    if output.is_empty() {
        output.push(message(vec![text_part("")], "completed"));
    }
    if let Some(last) = output.last_mut() {
        last["status"] = ending.status.into();
    }
    let mut response = opening(back, id);
    ending.close(&mut response, output, &answer.usage);
    Ok(response)
}

/// Sets when an answer was made, in seconds since 1970.
pub(in super::super) fn set_created(response: &mut Value, seconds: i64) {
    response["created_at"] = seconds.into();
}

/// How an answer ended, in the API's words.
pub(super) struct Ending {
    pub(super) status: &'static str,
    reason: Option<&'static str>,
}

impl Ending {
    pub(super) fn of(finish: &str) -> Ending {
        let reason = match finish_word(finish, false) {
            "length" => Some("max_output_tokens"),
            "content_filter" => Some("content_filter"),
            _ => None,
        };
        let status = if reason.is_some() { "incomplete" } else { "completed" };
        Ending { status, reason }
    }

    /// Makes an opened response the final one.
    pub(super) fn close(&self, response: &mut Value, output: Vec<Value>, usage: &Usage) {
        response["status"] = self.status.into();
        response["incomplete_details"] = self.reason.map_or(Value::Null, |reason| json!({"reason": reason}));
        response["output"] = output.into();
        response["usage"] = tokens(usage);
    }
}

/// What the API repeats of a request in its answer, and what it says where the request is silent.
fn repeated() -> [(&'static str, Value); 16] {
    [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("max_tool_calls", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("prompt_cache_key", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("safety_identifier", Value::Null),
        ("store", false.into()),
        ("temperature", json!(1.0)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("truncation", "disabled".into()),
        ("user", Value::Null),
    ]
}

/// A response before anything is said. When it was made is [`set_created`] where it is known.
pub(super) fn opening(back: &Back, id: &str) -> Value {
    let mut response = json!({
        "id": id,
        "object": "response",
        "created_at": 0,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "model": back.model,
        "output": [],
        "previous_response_id": null,
        "top_logprobs": 0,
        "usage": null,
    });
    for (key, default) in repeated() {
        let asked = back.request.get(key).filter(|value| !value.is_null());
        response[key] = asked.cloned().unwrap_or(default);
    }
    response
}

/// A message of the model's. It has no id: see the module's words.
pub(super) fn message(content: Vec<Value>, status: &str) -> Value {
    json!({"type": "message", "status": status, "role": "assistant", "content": content})
}

/// A part of text.
pub(super) fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

/// A part of a refusal.
pub(super) fn refusal_part(refusal: &str) -> Value {
    json!({"type": "refusal", "refusal": refusal})
}

/// A tool call. It has no id: see the module's words.
pub(super) fn function_call(call_id: &str, name: &str, arguments: &str, status: &str) -> Value {
    json!({"type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments})
}

/// Tokens in the API's words; null where chat didn't say both totals. Clients ask for the parts: 0 where not known.
fn tokens(usage: &Usage) -> Value {
    let Some((input, output)) = usage.input.zip(usage.output) else {
        return Value::Null;
    };
    json!({
        "input_tokens": input,
        "input_tokens_details": {
            "cached_tokens": usage.cached.unwrap_or(0),
            "cache_write_tokens": usage.cache_write.unwrap_or(0),
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
        "total_tokens": input.saturating_add(output),
    })
}
