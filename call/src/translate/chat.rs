//! OpenAI chat as the others see it: its streams as a sequence of [`Delta`]s, and a whole answer written.

use serde_json::{Value, json};

use crate::call::{Response, Usage};
use crate::wire::sse;

/// What one chunk of a chat stream adds, choice 0 alone. Reasoning is left out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Delta {
    /// The first chunk: the candidate's id of the answer.
    Start {
        /// `chatcmpl-…`; empty where none was given.
        id: String,
    },
    /// More text.
    Text(String),
    /// More of a refusal.
    Refusal(String),
    /// A new tool call, with all that is known when its name is; calls are numbered from 0 without gaps.
    ToolCall {
        /// Its place among the tool calls.
        index: usize,
        /// The candidate's id; empty where none was given.
        id: String,
        /// The tool's name.
        name: String,
    },
    /// More of the JSON text of a tool call's arguments.
    Arguments {
        /// Which call.
        index: usize,
        /// The piece.
        piece: String,
    },
    /// The finish word.
    Finish(String),
    /// Tokens, mostly in the last chunk, after the finish word.
    Usage(Usage),
    /// An error inside the stream: the inner `error` value where there is one.
    Error(Value),
}

/// Reads a chat stream in pieces of any size.
#[derive(Default)]
pub(super) struct Reader {
    pending: Vec<u8>,
}

impl Reader {
    /// The deltas that a piece completes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<Delta> {
        self.pending.extend_from_slice(piece);
        let mut events = sse::Events::of_open_stream(&self.pending);
        for _event in events.by_ref() {}
        let position = events.position();
        self.pending.drain(..position);
        Vec::new()
    }

    /// The deltas of what is left at the end.
    pub(super) fn finish(&mut self) -> Vec<Delta> {
        Vec::new()
    }
}

/// A whole answer.
pub(super) fn completion(id: &str, _answer: &Response) -> Value {
    json!({"id": id, "object": "chat.completion"})
}
