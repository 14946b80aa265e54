//! A streamed answer as content blocks, one after the other, as Anthropic and Bedrock write them.
//!
//! Blank text that no other follows is left out, since neither API takes it back.

use super::chat::finish_word;
use super::ids::is_tool_name;
use super::{Ending, UNSAYABLE, Writer, Written, tool_calls};

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

/// Writes the stream of an answer.
pub(super) struct Blocks<E> {
    events: E,
    open: Option<Open>,
    /// How many blocks were begun.
    blocks: usize,
    /// Blank text that no other has followed.
    blank: String,
}

/// The block that is being written.
enum Open {
    Text,
    /// A tool call, with its arguments so far.
    Call(String),
}

impl<E: BlockEvents> Blocks<E> {
    /// Of an API's events.
    pub(super) fn new(events: E) -> Blocks<E> {
        Blocks {
            events,
            open: None,
            blocks: 0,
            blank: String::new(),
        }
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

    /// Ends the open block; a call may be cut only where the answer is.
    fn close(&mut self, is_cut: bool, out: &mut Vec<u8>) -> Written {
        match self.open.take() {
            Some(Open::Call(arguments)) if !is_cut && !tool_calls::is_object(&arguments) => {
                return Err("the model called a tool with arguments that are no object".into());
            }
            Some(_) => self.events.stop(self.blocks.saturating_sub(1), out),
            None => {}
        }
        Ok(())
    }
}

impl<E: BlockEvents> Writer for Blocks<E> {
    fn start(&mut self, id: &str, out: &mut Vec<u8>) {
        self.events.start(id, out);
    }

    fn text(&mut self, piece: &str, out: &mut Vec<u8>) -> Written {
        if matches!(self.open, Some(Open::Text)) {
            self.delta(Piece::Text(piece), out);
            return Ok(());
        }
        self.blank.push_str(piece);
        if !self.blank.trim().is_empty() {
            self.close(false, out)?;
            self.begin(Open::Text, Begun::Text, out);
            let text = std::mem::take(&mut self.blank);
            self.delta(Piece::Text(&text), out);
        }
        Ok(())
    }

    fn call(&mut self, _index: usize, id: &str, name: &str, out: &mut Vec<u8>) -> Written {
        self.blank.clear();
        self.close(false, out)?;
        if !is_tool_name(name) {
            return Err(UNSAYABLE.into());
        }
        self.begin(Open::Call(String::new()), Begun::Call { id, name }, out);
        Ok(())
    }

    fn arguments(&mut self, _index: usize, piece: &str, out: &mut Vec<u8>) {
        if let Some(Open::Call(arguments)) = &mut self.open {
            arguments.push_str(piece);
            self.delta(Piece::Arguments(piece), out);
        }
    }

    fn fail(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        self.events.fail(status, message, out);
    }

    fn finish(&mut self, ending: &Ending<'_>, out: &mut Vec<u8>) -> Written {
        self.close(finish_word(ending.word, false) == "length", out)?;
        self.events.finish(ending, out);
        Ok(())
    }
}
