//! OpenAI legacy Completions and their dialects (vLLM, Together, Writer, fill-in-the-middle of Mistral).
//!
//! The prompt is no conversation: each text of it is one message of the user's, and has an answer of its own.

use serde_json::Value;

use super::framing::{Event, Events};
use super::json::{integer, list, text};
use super::{Assembled, openai_chat};
use crate::call::{Message, Operation, Request, Response, Role};

/// Reads a request object.
pub(super) fn request(body: &Value) -> Request {
    Request {
        operation: Operation::Complete,
        messages: body.get("prompt").map(texts).unwrap_or_default(),
        ..openai_chat::request(body)
    }
}

/// A message for each text of a prompt or input: one text, a list of them, one list of tokens, or a list of those.
/// Tokens are not text, and count as media.
pub(super) fn texts(input: &Value) -> Vec<Message> {
    match input {
        Value::Null => Vec::new(),
        Value::Array(tokens) if !tokens.is_empty() && tokens.iter().all(Value::is_number) => vec![user_message(input)],
        Value::Array(inputs) => inputs.iter().map(user_message).collect(),
        input => vec![user_message(input)],
    }
}

fn user_message(input: &Value) -> Message {
    match input {
        Value::String(text) => Message::text(Role::User, text.as_str()),
        Value::Array(_) => Message {
            media_parts: 1,
            ..Message::text(Role::User, "")
        },
        part => openai_chat::message_of(Role::User, std::slice::from_ref(part)),
    }
}

/// Folds a stream to the answer that it adds up to.
pub(super) fn fold(events: Events<'_>) -> Assembled {
    openai_chat::fold_to("text_completion", events)
}

/// Reads a response object; a few servers answer with a chat's `message`.
pub(super) fn response(body: &Value) -> Response {
    let choices = list(body, "choices");
    let first = choices.iter().find(|choice| integer(choice, "index") == Some(0));
    let choice = first.or(choices.first()).unwrap_or(&Value::Null);
    let answer = openai_chat::response(body);
    let reasoning = openai_chat::REASONING_KEYS.iter().find_map(|key| text(choice, key));
    match choice.get("text").and_then(Value::as_str) {
        Some(text) => Response {
            output_text: text.into(),
            reasoning_text: reasoning.unwrap_or_default().into(),
            ..answer
        },
        None => answer,
    }
}

/// Whether a stream's chunk carries text or reasoning.
pub(super) fn carries_output(event: &Event<'_>) -> bool {
    let has_output = |chunk: &Value| {
        let has_text = |choice: &Value| text(choice, "text").or_else(|| text(choice, "reasoning")).is_some();
        text(chunk, "value").is_some() || list(chunk, "choices").iter().any(has_text)
    };
    super::json::parse(&event.data).is_ok_and(|chunk| has_output(&chunk)) || openai_chat::carries_output(event)
}

#[cfg(test)]
mod tests;
