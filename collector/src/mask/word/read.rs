//! Reading one word: where it ends, how it is written, and the hash that the lexicon knows it by.
//!
//! Most words are ASCII and short: eight bytes are looked at at once, by arithmetic on one number.

use super::{Shape, fold};
use crate::mask::lexicon::WordHash;

/// A word as it is read.
pub(super) struct Reading {
    pub(super) end: usize,
    pub(super) hash: u64,
    has_lower: bool,
    has_upper: bool,
    has_digits: bool,
    /// Letters and digits.
    count: usize,
    /// A letter that is not the first is a capital.
    has_inner_capital: bool,
    starts_with_capital: bool,
}

/// Whether a byte belongs to no word.
pub(super) fn is_separator(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && byte.is_ascii()
}

impl Reading {
    /// The word that begins at `start`; none if a sign stands there.
    pub(super) fn word(text: &str, start: usize) -> Option<Reading> {
        let bytes = text.as_bytes();
        let mut hash = WordHash::default();
        let mut reading = Reading::empty(start);
        loop {
            let eight = Eight::at(bytes, reading.end);
            let length = eight.length();
            if length < 8 && bytes.get(reading.end + length).is_some_and(|byte| !byte.is_ascii()) {
                return Reading::wide_word(text, start);
            }
            let inside = eight.first(length);
            let (upper, lower) = (inside.upper(), inside.lower());
            reading.has_lower |= lower != 0;
            reading.has_upper |= upper != 0;
            reading.has_digits |= inside.digits() != 0;
            let first = u64::from(reading.end == start) * 0x80;
            reading.starts_with_capital |= upper & first != 0;
            reading.has_inner_capital |= upper & !first != 0;
            reading.end += length;
            hash.push_ascii(inside.0, length);
            if length < 8 {
                break;
            }
        }
        reading.count = reading.end - start;
        reading.hash = hash.finish();
        Some(reading)
    }

    fn empty(start: usize) -> Reading {
        Reading {
            end: start,
            hash: 0,
            has_lower: false,
            has_upper: false,
            has_digits: false,
            count: 0,
            has_inner_capital: false,
            starts_with_capital: false,
        }
    }

    /// The same, letter by letter, beyond ASCII.
    fn wide_word(text: &str, start: usize) -> Option<Reading> {
        let mut hash = WordHash::default();
        let mut reading = Reading::empty(start);
        for letter in text[start..].chars().take_while(|letter| is_letter(*letter)) {
            let is_capital = letter.is_uppercase();
            reading.starts_with_capital |= is_capital && reading.count == 0;
            reading.has_inner_capital |= is_capital && reading.count > 0;
            reading.has_digits |= letter.is_ascii_digit();
            reading.has_upper |= is_capital;
            reading.has_lower |= !is_capital && !letter.is_ascii_digit();
            reading.count += usize::from(!is_mark(letter));
            reading.end += letter.len_utf8();
            fold(letter, |byte| hash.push(byte));
        }
        reading.hash = hash.finish();
        (reading.count > 0).then_some(reading)
    }

    pub(super) fn has_digits(&self) -> bool {
        self.has_digits
    }

    pub(super) fn shape(&self, word: &[u8]) -> Shape {
        match (self.has_lower, self.has_upper, self.has_digits) {
            (true, false, false) => Shape::Lower,
            (false, false, true) => Shape::Number,
            (false, true, false) if self.count == 1 => Shape::Initial,
            (false, true, false) => Shape::Upper,
            (_, _, false) if self.starts_with_capital && (!self.has_inner_capital || is_prefixed_name(word)) => {
                Shape::Title
            }
            _ => Shape::Code,
        }
    }
}

/// Eight bytes of a text, the first of them lowest; zeros past the end.
#[derive(Clone, Copy)]
struct Eight(u64);

/// The same byte eight times.
const fn all(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The high bit of each byte, which marks those that a question is true of.
const MARKS: u64 = all(0x80);

impl Eight {
    fn at(bytes: &[u8], at: usize) -> Eight {
        let rest = bytes.get(at..).unwrap_or_default();
        Eight(match rest.first_chunk() {
            Some(eight) => u64::from_le_bytes(*eight),
            None => rest.iter().rev().fold(0, |eight, byte| eight << 8 | u64::from(*byte)),
        })
    }

    /// Only the first `length`, zeros after them.
    fn first(self, length: usize) -> Eight {
        Eight(if length < 8 { self.0 & ((1 << (8 * length)) - 1) } else { self.0 })
    }

    /// Marks bytes from `low` up to before `end`, both ASCII, among bytes that are.
    fn between(ascii: u64, low: u8, end: u8) -> u64 {
        (ascii + all(0x80 - low)) & !(ascii + all(0x80 - end)) & MARKS
    }

    fn letters(self) -> u64 {
        Eight::between((self.0 | all(0x20)) & !MARKS, b'a', b'z' + 1) & !self.0
    }

    fn digits(self) -> u64 {
        Eight::between(self.0 & !MARKS, b'0', b'9' + 1) & !self.0
    }

    fn lower(self) -> u64 {
        self.letters() & (self.0 << 2)
    }

    fn upper(self) -> u64 {
        self.letters() & !(self.0 << 2)
    }

    /// How many ASCII letters and digits it begins with.
    fn length(self) -> usize {
        (!(self.letters() | self.digits()) & MARKS).trailing_zeros() as usize / 8
    }
}

/// `McDonald`, `MacLeod`, `DeLuca`, `FitzGerald`: one more capital, after a prefix of names.
fn is_prefixed_name(word: &[u8]) -> bool {
    let prefixes: [&[u8]; 12] = [
        b"Mc", b"Mac", b"De", b"Di", b"Du", b"La", b"Le", b"Van", b"Von", b"Fitz", b"Del", b"Ben",
    ];
    prefixes.into_iter().any(|prefix| {
        word.strip_prefix(prefix).is_some_and(|rest| {
            rest.first().is_some_and(u8::is_ascii_uppercase)
                && rest.len() > 2
                && !rest[1..].iter().any(u8::is_ascii_uppercase)
        })
    })
}

/// Letters, and the marks that are part of a letter.
fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || is_mark(letter)
}

/// Combining marks, among them the vowel signs of Indian scripts.
fn is_mark(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{903}' | '\u{93a}'..='\u{94f}' | '\u{64b}'..='\u{65f}')
}
