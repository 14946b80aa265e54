//! Small made-up calls, in the shapes of the two providers.

use crate::upstream::{Seen, Step, json, stream};
use serde_json::{Value, json as value};

/// The path of OpenAI's chat API.
pub const CHAT: &str = "/v1/chat/completions";
/// The path of Anthropic's messages API.
pub const MESSAGES: &str = "/v1/messages";

/// A chat request of one user message.
pub fn chat_request(model: &str, text: &str, streamed: bool) -> String {
    value!({"model": model, "stream": streamed, "messages": [{"role": "user", "content": text}]}).to_string()
}

/// A chat answer of one text.
pub fn chat_answer(model: &str, text: &str) -> Value {
    value!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    })
}

/// One event of a streamed chat answer.
pub fn chat_event(model: &str, text: &str) -> String {
    let event = value!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}],
    });
    format!("data: {event}\n\n")
}

/// The last events of a streamed chat answer.
pub fn chat_end(model: &str) -> String {
    let event = value!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    });
    format!("data: {event}\n\ndata: [DONE]\n\n")
}

/// Answers a chat request with `text`, streamed word by word where a stream is asked for.
pub fn answer_chat(seen: &Seen, model: &str, text: &str) -> Vec<Step> {
    if !seen.wants_stream() {
        return json(200, &chat_answer(model, text));
    }
    let mut events: Vec<String> = text.split_inclusive(' ').map(|word| chat_event(model, word)).collect();
    events.push(chat_end(model));
    stream(&events)
}

/// The text of a chat answer, streamed or not.
pub fn chat_text(body: &str) -> String {
    let text = |value: &Value, at: &str| {
        value["choices"][0][at]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    if let Ok(whole) = serde_json::from_str::<Value>(body) {
        return text(&whole, "message");
    }
    body.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .map(|event| text(&event, "delta"))
        .collect()
}
