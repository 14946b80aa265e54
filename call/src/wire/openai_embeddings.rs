//! OpenAI Embeddings and its dialects.

use serde_json::Value;

use super::Assembled;
use super::framing::{Event, Events};
use crate::call::{Request, Response};

/// Reads a request object.
pub(super) fn request(_body: &Value) -> Request {
    Request::default()
}

/// Folds a stream to the answer that it adds up to.
pub(super) fn fold(_events: Events<'_>) -> Assembled {
    Assembled::default()
}

/// Reads a response object.
pub(super) fn response(_body: &Value) -> Response {
    Response::default()
}

/// Whether a stream's event carries text, reasoning, a refusal or a part of a tool call.
pub(super) fn carries_output(_event: &Event<'_>) -> bool {
    false
}
