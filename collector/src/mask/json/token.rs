//! Tokens of a JSON text (RFC 8259), one after the other, without recursion.
//!
//! Checks the whole grammar and changes nothing; memory grows with depth alone, which has a bound.

use crate::mask::eight::Eight;
use memchr::memchr2;
use std::ops::Range;

/// Bytes of a string that are looked at in the way of short ones.
const SHORT: usize = 32;
/// Deeper texts are refused.
const DEPTH: usize = 1 << 17;

/// Why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("parsing JSON at byte {at}: expected {expected}")]
pub struct JsonError {
    /// Where it stops being JSON.
    pub at: usize,
    /// What could have stood there.
    pub expected: &'static str,
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    Key,
    Text,
    Number,
}

/// A key, string or number; structure and literals are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    /// Its bytes, without the quotes.
    pub(super) range: Range<usize>,
    pub(super) is_escaped: bool,
    /// The key that the value stands under, arrays passed through; empty for none.
    pub(super) label: Range<usize>,
}

#[derive(Clone, Copy)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    End,
}

struct Frame {
    is_object: bool,
    label: Range<usize>,
}

/// The tokens of one text.
pub(super) struct Tokens<'t> {
    bytes: &'t [u8],
    at: usize,
    frames: Vec<Frame>,
    expect: Expect,
    label: Range<usize>,
}

impl<'t> Tokens<'t> {
    pub(super) fn new(json: &'t str) -> Tokens<'t> {
        Tokens {
            bytes: json.as_bytes(),
            at: 0,
            frames: Vec::new(),
            expect: Expect::Value,
            label: 0..0,
        }
    }

    /// The next token; none at the end of a whole text.
    pub(super) fn next(&mut self) -> Result<Option<Token>, JsonError> {
        loop {
            self.skip_white_space();
            let Some(&byte) = self.bytes.get(self.at) else {
                return match self.expect {
                    Expect::End => Ok(None),
                    _ => Err(self.error("more")),
                };
            };
            match (self.expect, byte) {
                (Expect::Value | Expect::ValueOrEnd, b'{') => self.open(true)?,
                (Expect::Value | Expect::ValueOrEnd, b'[') => self.open(false)?,
                (Expect::ValueOrEnd, b']') | (Expect::KeyOrEnd, b'}') => self.close(),
                (Expect::CommaOrEnd, b']' | b'}')
                    if self
                        .frames
                        .last()
                        .is_some_and(|frame| frame.is_object == (byte == b'}')) =>
                {
                    self.close();
                }
                (Expect::CommaOrEnd, b',') => {
                    self.at += 1;
                    let is_object = self.frames.last().is_some_and(|frame| frame.is_object);
                    self.expect = if is_object { Expect::Key } else { Expect::Value };
                }
                (Expect::Colon, b':') => {
                    self.at += 1;
                    self.expect = Expect::Value;
                }
                (Expect::Key | Expect::KeyOrEnd, b'"') => return self.key().map(Some),
                (Expect::Value | Expect::ValueOrEnd, b'"') => {
                    let (range, is_escaped) = self.string()?;
                    return Ok(Some(self.value(TokenKind::Text, range, is_escaped)));
                }
                (Expect::Value | Expect::ValueOrEnd, b'-' | b'0'..=b'9') => {
                    let range = self.number()?;
                    return Ok(Some(self.value(TokenKind::Number, range, false)));
                }
                (Expect::Value | Expect::ValueOrEnd, b't' | b'f' | b'n') => self.literal()?,
                (Expect::Value | Expect::ValueOrEnd, _) => return Err(self.error("a value")),
                (Expect::Key | Expect::KeyOrEnd, _) => return Err(self.error("a key")),
                (Expect::Colon, _) => return Err(self.error("a colon")),
                (Expect::CommaOrEnd, _) => return Err(self.error("a comma or the end of an array or object")),
                (Expect::End, _) => return Err(self.error("nothing more")),
            }
        }
    }

    fn error(&self, expected: &'static str) -> JsonError {
        JsonError { at: self.at, expected }
    }

    fn skip_white_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn open(&mut self, is_object: bool) -> Result<(), JsonError> {
        if self.frames.len() == DEPTH {
            return Err(self.error("less depth"));
        }
        self.frames.push(Frame {
            is_object,
            label: self.label.clone(),
        });
        self.expect = if is_object {
            Expect::KeyOrEnd
        } else {
            Expect::ValueOrEnd
        };
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.frames.pop();
        self.at += 1;
        self.after_value();
    }

    fn after_value(&mut self) {
        match self.frames.last() {
            Some(frame) => {
                self.expect = Expect::CommaOrEnd;
                self.label = frame.label.clone();
            }
            None => self.expect = Expect::End,
        }
    }

    fn key(&mut self) -> Result<Token, JsonError> {
        let (range, is_escaped) = self.string()?;
        self.label = range.clone();
        self.expect = Expect::Colon;
        Ok(Token {
            kind: TokenKind::Key,
            range,
            is_escaped,
            label: 0..0,
        })
    }

    fn value(&mut self, kind: TokenKind, range: Range<usize>, is_escaped: bool) -> Token {
        let label = self.label.clone();
        self.after_value();
        Token {
            kind,
            range,
            is_escaped,
            label,
        }
    }

    /// Reads a string whose opening quote is at `self.at`.
    fn string(&mut self) -> Result<(Range<usize>, bool), JsonError> {
        let start = self.at + 1;
        self.at = start;
        let mut is_escaped = false;
        loop {
            self.at += self.plain_length()?;
            if self.bytes[self.at] == b'"' {
                let range = start..self.at;
                self.at += 1;
                return Ok((range, is_escaped));
            }
            is_escaped = true;
            self.at += self.escape_width()?;
        }
    }

    /// How far it is to the next quote or backslash.
    fn plain_length(&self) -> Result<usize, JsonError> {
        let rest = &self.bytes[self.at..];
        // Most runs are short.
        let mut length = 0;
        while length < SHORT && rest.len() >= length + 8 {
            let plain = Eight::at(rest, length).plain_in_json();
            length += plain;
            if plain < 8 {
                break;
            }
        }
        if !matches!(rest.get(length), Some(b'"' | b'\\')) {
            length = memchr2(b'"', b'\\', rest).ok_or_else(|| self.error("a closing quote"))?;
            // Folded without an early exit, so that it is vectorised.
            if rest[..length]
                .iter()
                .fold(false, |is_bad, byte| is_bad | (*byte < 0x20))
            {
                return Err(self.error("a string without control characters"));
            }
        }
        Ok(length)
    }

    fn escape_width(&self) -> Result<usize, JsonError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u')
                if self
                    .bytes
                    .get(self.at + 2..self.at + 6)
                    .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
            {
                Ok(6)
            }
            _ => Err(self.error("an escape")),
        }
    }

    fn number(&mut self) -> Result<Range<usize>, JsonError> {
        let start = self.at;
        self.at += usize::from(self.bytes[self.at] == b'-');
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(start..self.at)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.bytes[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.at += count;
        if count == 0 { Err(self.error("a digit")) } else { Ok(()) }
    }

    fn literal(&mut self) -> Result<(), JsonError> {
        let rest = &self.bytes[self.at..];
        let literals: [&[u8]; 3] = [b"true", b"false", b"null"];
        let Some(literal) = literals.into_iter().find(|literal| rest.starts_with(literal)) else {
            return Err(self.error("a literal"));
        };
        self.at += literal.len();
        self.after_value();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(json: &str) -> Result<Vec<(TokenKind, &str, &str)>, JsonError> {
        let mut tokens = Tokens::new(json);
        let mut all = Vec::new();
        while let Some(token) = tokens.next()? {
            all.push((token.kind, &json[token.range], &json[token.label]));
        }
        Ok(all)
    }

    #[test]
    fn values_come_with_their_labels() {
        use TokenKind::{Key, Number, Text};
        let json = r#" {"a": ["x", {"b": -1.5e3}, "y\"z"], "c": null, "d": true} "#;
        let expected = [
            (Key, "a", ""),
            (Text, "x", "a"),
            (Key, "b", ""),
            (Number, "-1.5e3", "b"),
            (Text, "y\\\"z", "a"),
            (Key, "c", ""),
            (Key, "d", ""),
        ];
        assert_eq!(tokens(json).unwrap(), expected);
    }

    #[test]
    fn what_serde_json_refuses_is_refused_and_the_rest_not() {
        for json in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            "+1",
            "[1 2]",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "tru",
            "1 2",
            "[}",
            "{\"a\"}",
            "{\"a\":}",
            "]",
            "-",
            "1e",
            "\"a",
            "nul",
            "[",
            "{]",
            "\u{feff}{}",
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(json).is_err(), "{json}");
            assert!(tokens(json).is_err(), "{json}");
        }
        for json in [
            "0",
            "-0",
            "1e999",
            "[]",
            "{}",
            "\"\\u00e9\\n\"",
            " [ ] ",
            "[[],{}]",
            "{\"a\":1,\"a\":2}",
            "false",
        ] {
            assert!(tokens(json).is_ok(), "{json}");
        }
    }

    #[test]
    fn depth_takes_no_stack_and_has_a_bound() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(tokens(&deep).unwrap(), []);
        assert_eq!(tokens(&"[".repeat(DEPTH + 1)).unwrap_err().expected, "less depth");
    }
}
