//! A streamed answer as content blocks, one after the other, as Anthropic and Bedrock write them.
//!
//! Blank text that no other follows is left out, since neither API takes it back. A call that can't be said ends the answer
//! with an error, and so does a stream without a finish word.

use super::chat::{Delta, finish_word};
use super::ids::{CallIds, is_tool_name};
use super::{BROKE_OFF, Back, Writer, error_said, tool_calls};
use crate::call::Usage;

/// What an API writes of an answer; `index` is a block's place.
pub(super) trait BlockEvents: Send {
    /// The answer begins.
    fn start(&mut self, id: &str, out: &mut Vec<u8>);
    /// A block begins.
    fn begin(&mut self, index: usize, block: Begun<'_>, out: &mut Vec<u8>);
    /// More text of a block, or more of a call's arguments.
    fn delta(&mut self, index: usize, piece: Piece<'_>, out: &mut Vec<u8>);
    /// A block is whole.
    fn stop(&mut self, index: usize, out: &mut Vec<u8>);
    /// The answer failed; nothing follows.
    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>);
    /// The answer is whole.
    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>);
}

/// A block that begins.
pub(super) enum Begun<'a> {
    Text,
    Call { id: &'a str, name: &'a str },
}

/// A piece of a block.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Arguments(&'a str),
}

/// How an answer ended.
pub(super) struct Ending<'a> {
    /// The candidate's finish word.
    pub(super) word: &'a str,
    pub(super) has_calls: bool,
    pub(super) is_refused: bool,
    pub(super) usage: Usage,
}

/// Writes the stream of an answer.
pub(super) struct Blocks<E> {
    events: E,
    ids: CallIds,
    open: Option<Open>,
    /// How many blocks were begun.
    blocks: usize,
    /// Blank text that no other has followed.
    blank: String,
    has_calls: bool,
    is_refused: bool,
    finish: Option<String>,
    usage: Usage,
    has_failed: bool,
}

/// The block that is being written.
enum Open {
    Text,
    /// A tool call, with its arguments so far.
    Call(String),
}

impl<E: BlockEvents> Blocks<E> {
    /// For an answer to the request of `back`.
    pub(super) fn new(back: &Back, events: E) -> Blocks<E> {
        Blocks {
            events,
            ids: CallIds::of_history(&back.request),
            open: None,
            blocks: 0,
            blank: String::new(),
            has_calls: false,
            is_refused: false,
            finish: None,
            usage: Usage::default(),
            has_failed: false,
        }
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) {
        if matches!(self.open, Some(Open::Text)) {
            return self.delta(Piece::Text(piece), out);
        }
        self.blank.push_str(piece);
        if !self.blank.trim().is_empty() && self.close(out) {
            self.begin(Open::Text, Begun::Text, out);
            let text = std::mem::take(&mut self.blank);
            self.delta(Piece::Text(&text), out);
        }
    }

    fn call(&mut self, index: usize, id: &str, name: &str, out: &mut Vec<u8>) {
        self.blank.clear();
        if !self.close(out) {
            return;
        }
        if !is_tool_name(name) {
            return self.fail(500, "the model called a tool by a name that can't be said", out);
        }
        self.has_calls = true;
        let id = &self.ids.next(id, index);
        self.begin(Open::Call(String::new()), Begun::Call { id, name }, out);
    }

    fn begin(&mut self, open: Open, block: Begun<'_>, out: &mut Vec<u8>) {
        self.events.begin(self.blocks, block, out);
        self.open = Some(open);
        self.blocks += 1;
    }

    /// Adds to the open block.
    fn delta(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        self.events.delta(self.blocks.saturating_sub(1), piece, out);
    }

    /// Ends the open block; false where that failed.
    fn close(&mut self, out: &mut Vec<u8>) -> bool {
        let is_cut = self
            .finish
            .as_deref()
            .is_some_and(|word| finish_word(word, false) == "length");
        match self.open.take() {
            Some(Open::Call(arguments)) if !is_cut && !tool_calls::is_object(&arguments) => {
                self.fail(500, "the model called a tool with arguments that are no object", out);
            }
            Some(_) => self.events.stop(self.blocks.saturating_sub(1), out),
            None => {}
        }
        !self.has_failed
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        self.events.fail(status, message, out);
        self.has_failed = true;
    }
}

impl<E: BlockEvents> Writer for Blocks<E> {
    fn write(&mut self, delta: Delta, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        match delta {
            Delta::Start { id } => self.events.start(&id, out),
            Delta::Text(piece) => self.text(&piece, out),
            Delta::Refusal(piece) => {
                self.is_refused = true;
                self.text(&piece, out);
            }
            Delta::ToolCall { index, id, name } => self.call(index, &id, &name, out),
            Delta::Arguments { piece, .. } => {
                if let Some(Open::Call(arguments)) = &mut self.open {
                    arguments.push_str(&piece);
                    self.delta(Piece::Arguments(&piece), out);
                }
            }
            Delta::Finish(word) => self.finish = Some(word),
            Delta::Usage(usage) => self.usage = usage,
            Delta::Error(error) => {
                let (status, message) = error_said(&error);
                self.fail(status, &message, out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.has_failed {
            return;
        }
        if self.finish.is_none() {
            return self.fail(500, BROKE_OFF, out);
        }
        if !self.close(out) {
            return;
        }
        let ending = Ending {
            word: self.finish.as_deref().unwrap_or_default(),
            has_calls: self.has_calls,
            is_refused: self.is_refused,
            usage: self.usage,
        };
        self.events.finish(&ending, out);
    }
}
