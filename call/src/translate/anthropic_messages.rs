//! Anthropic Messages ⇄ OpenAI chat.
//!
//! Thinking is the baseline's own: blocks of it in the history are left out of the candidate's request (the agent keeps
//! them, and sends them to the baseline again), `thinking` and `effort` say how much the baseline is to think, and no
//! answer of a candidate has any. Where the API asks for a thinking block before each tool call (`thinking` other than
//! `adaptive` or `disabled`, with tools), a candidate's call could not go back, so the request is refused.
//!
//! Chat doesn't say which stop sequence it stopped at: the stop reason is then `end_turn`.

use serde_json::{Value, json};

mod answer;
mod asking;
mod events;
mod reader;
mod request;

pub(super) use answer::answer;
pub(super) use asking::asking;
pub(super) use events::Events;
pub(super) use reader::MessageEvents;
pub(super) use request::request;

/// An error body of this API.
pub(super) fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

#[cfg(test)]
mod tests;
