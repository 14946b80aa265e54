//! Sees an API's end mark go by in a stream, on the hot path: what follows it is no part of the answer.
//!
//! Keeps a few bytes of state, however long the stream and however it is cut, and allocates nothing. A mark counts at
//! the same byte for all cuts. Never parses JSON: text inside it can't look like a mark.

use crate::call::Api;

mod binary;
mod done;
mod lines;

/// Looks for the end mark in the pieces of one streamed response.
pub struct EndMark {
    scan: Scan,
    seen: bool,
}

/// How an API's streams are scanned.
enum Scan {
    /// The API has no end mark, or none that could be seen before its last byte.
    Nothing,
    Lines(lines::Scan),
    Binary(Box<binary::Scan>),
    Done(done::Scan),
}

impl EndMark {
    /// For a response of `api`; never seen where that API has none.
    pub fn new(api: Api) -> EndMark {
        let scan = match api {
            Api::OpenaiChat | Api::OpenaiCompletions => Scan::Lines(lines::Scan::new(&lines::CHAT)),
            Api::OpenaiResponses => Scan::Lines(lines::Scan::new(&lines::RESPONSES)),
            Api::AnthropicMessages => Scan::Lines(lines::Scan::new(&lines::MESSAGES)),
            Api::CohereChat => Scan::Lines(lines::Scan::new(&lines::COHERE)),
            Api::BedrockConverse => Scan::Binary(Box::new(binary::Scan::new())),
            Api::Ollama => Scan::Done(done::Scan::new()),
            Api::Gemini | Api::BedrockInvoke | Api::OpenaiEmbeddings | Api::Other => Scan::Nothing,
        };
        EndMark { scan, seen: false }
    }

    /// Whether the API has an end mark that can be seen.
    pub fn can_be_seen(&self) -> bool {
        !matches!(self.scan, Scan::Nothing)
    }

    /// Takes the next piece of the (not compressed) stream; true once the end mark has been seen.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        if !self.seen {
            self.seen = match &mut self.scan {
                Scan::Nothing => false,
                Scan::Lines(scan) => scan.push(piece),
                Scan::Binary(scan) => scan.push(piece),
                Scan::Done(scan) => scan.push(piece),
            };
        }
        self.seen
    }
}

#[cfg(test)]
mod tests;
