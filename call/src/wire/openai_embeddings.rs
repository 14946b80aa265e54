//! OpenAI Embeddings and their dialects (Azure, Mistral, Voyage).
//!
//! The vectors themselves, floats or base64, are not read.

use serde_json::Value;

use super::framing::{Event, Events};
use super::json::{integer, text};
use super::{Assembled, openai_chat, openai_completions};
use crate::call::{Operation, Request, Response, Usage};

/// Reads a request object.
pub(super) fn request(body: &Value) -> Request {
    Request {
        operation: Operation::Embed,
        messages: body.get("input").map(openai_completions::texts).unwrap_or_default(),
        ..openai_chat::request(body)
    }
}

/// This API has no streams: what looks like one is counted, not read.
pub(super) fn fold(events: Events<'_>) -> Assembled {
    Assembled {
        skipped_events: u32::try_from(events.count()).unwrap_or(u32::MAX),
        ..Assembled::default()
    }
}

/// Reads a response object. There is no output, and so none is counted.
pub(super) fn response(body: &Value) -> Response {
    let usage = body.get("usage").unwrap_or(&Value::Null);
    Response {
        id: text(body, "id").map(Into::into),
        model: text(body, "model").map(Into::into),
        usage: Usage {
            // Voyage says the total alone.
            input: integer(usage, "prompt_tokens").or_else(|| integer(usage, "total_tokens")),
            ..Usage::default()
        },
        ..Response::default()
    }
}

/// There are no streams.
pub(super) fn carries_output(_event: &Event<'_>) -> bool {
    false
}

#[cfg(test)]
mod tests;
