//! The end of the line whose object says `"done":true`, the last of Ollama's streams.
//!
//! Follows strings, escapes and depth of the JSON, and nothing else of it. JSON text holds no raw line ends, so each
//! line begins afresh.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use memchr::{memchr3, memrchr};

const KEY: &[u8] = b"done";
const VALUE: &[u8] = b"true";
static VALUE_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(VALUE));

/// Where a line stands.
#[derive(Default)]
pub(super) struct Scan {
    depth: u32,
    at: At,
    line_is_last: bool,
}

/// What comes next.
#[derive(Clone, Copy, Default, PartialEq)]
enum At {
    /// A line.
    #[default]
    Start,
    /// Anything that matters to nobody.
    Between,
    /// A key of the outer object, or its end.
    KeyComes,
    /// Inside a key of the outer object: how much of [`KEY`] it was so far, if it may still be it.
    Key(Option<usize>),
    /// After the key that is looked for, before its value.
    ValueComes,
    /// Inside its value, which is a word: how much of [`VALUE`] it was.
    Value(usize),
    /// Inside any other string.
    String,
    /// After a backslash in a key or another string.
    Escape,
}

impl Scan {
    pub(super) fn new() -> Scan {
        Scan::default()
    }

    /// Whether the last line ends within this piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        loop {
            let skipped = match self.at {
                At::String => memchr3(b'"', b'\\', b'\n', piece),
                // Lines without the value are passed over.
                At::Start => {
                    let without_value = VALUE_FINDER.find(piece).unwrap_or(piece.len());
                    memrchr(b'\n', &piece[..without_value]).or(Some(0))
                }
                _ => Some(0),
            };
            let Some((&byte, rest)) = skipped.and_then(|skipped| piece.get(skipped..)?.split_first()) else {
                return false;
            };
            piece = rest;
            if byte == b'\n' {
                if self.line_is_last && self.depth == 0 {
                    return true;
                }
                *self = Scan::new();
            } else {
                self.at = self.after(byte);
            }
        }
    }

    fn after(&mut self, byte: u8) -> At {
        match (self.at, byte) {
            (At::Key(_) | At::String, b'\\') => At::Escape,
            (At::Escape, _) => At::String,
            (At::String, b'"') => At::Between,
            (At::String, _) => At::String,
            (At::Key(matched), b'"') if matched == Some(KEY.len()) => At::ValueComes,
            (At::Key(_), b'"') => At::Between,
            (At::Key(matched), byte) => At::Key(matched.filter(|at| KEY.get(*at) == Some(&byte)).map(|at| at + 1)),
            (At::KeyComes, b'"') => At::Key(Some(0)),
            (_, b'"') => At::String,
            (At::ValueComes, b':' | b' ' | b'\t' | b'\r') => At::ValueComes,
            (At::ValueComes, b't') => At::Value(1),
            (At::Value(matched), byte) if VALUE.get(matched) == Some(&byte) => At::Value(matched + 1),
            (At::Value(matched), byte) => {
                self.line_is_last |= matched == VALUE.len() && matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\r');
                self.at = At::Between;
                self.structure(byte)
            }
            (_, byte) => self.structure(byte),
        }
    }

    fn structure(&mut self, byte: u8) -> At {
        match byte {
            b'{' => {
                self.depth = self.depth.saturating_add(1);
                if self.depth == 1 { At::KeyComes } else { At::Between }
            }
            b'[' => {
                self.depth = self.depth.saturating_add(1);
                At::Between
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                At::Between
            }
            b',' if self.depth == 1 => At::KeyComes,
            // White space between a comma and a key.
            b' ' | b'\t' | b'\r' if self.at != At::Start => self.at,
            _ => At::Between,
        }
    }
}
