//! Cohere v2 chat ⇄ OpenAI chat.

use serde_json::{Value, json};

use super::chat::Delta;
use super::{Back, Refusal, Writer};
use crate::call::{Api, Response};

/// The chat request that says the same.
pub(super) fn request(_body: &Value) -> Result<Value, Refusal> {
    Err(Refusal::Api(Api::Other))
}

/// A chat answer in this API.
pub(super) fn answer(_back: &Back, _id: &str, _answer: &Response) -> Result<Value, Refusal> {
    Err(Refusal::Api(Api::Other))
}

/// An error body of this API.
pub(super) fn error(_status: u16, message: &str) -> Value {
    json!({"error": message})
}

/// Writes the stream of an answer.
pub(super) struct Events {}

impl Events {
    /// For an answer to the request of `back`.
    pub(super) fn new(_back: &Back) -> Events {
        Events {}
    }
}

impl Writer for Events {
    fn write(&mut self, _delta: Delta, _out: &mut Vec<u8>) {}

    fn finish(&mut self, _out: &mut Vec<u8>) {}
}
