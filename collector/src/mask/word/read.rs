//! Reading one word: where it ends, how it is written, and the hash that the lexicon knows it by.
//!
//! Most words are ASCII and short, so eight bytes are looked at at once.

use super::Shape;
use crate::mask::eight::{Eight, others, place};
use crate::mask::fold::fold;
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
#[inline]
pub(super) fn is_separator(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && byte.is_ascii()
}

impl Reading {
    /// The word that begins at `start`; none if a sign stands there.
    #[inline]
    pub(super) fn word(text: &str, start: usize) -> Option<Reading> {
        let bytes = text.as_bytes();
        let mut hash = WordHash::default();
        let mut end = start;
        let (mut letters, mut capitals, mut digits, mut first) = (0, 0, 0, 0);
        loop {
            let eight = Eight::at(bytes, end);
            let (some_letters, some_digits) = (eight.letters(), eight.digits());
            let length = place(others(some_letters | some_digits));
            if length < 8 && bytes.get(end + length).is_some_and(|byte| !byte.is_ascii()) {
                return Reading::wide_word(text, start);
            }
            let inside = |marks: u64| Eight(marks).first(length).0;
            let some_capitals = inside(eight.capitals(some_letters));
            if end == start {
                first = some_capitals & 0x80;
            }
            letters |= inside(some_letters) & !some_capitals;
            // The first is told apart from those inside.
            capitals |= if end == start {
                some_capitals & !0x80
            } else {
                some_capitals
            };
            digits |= inside(some_digits);
            hash.push_ascii(eight.first(length).0, length);
            end += length;
            if length < 8 {
                break;
            }
        }
        Some(Reading {
            end,
            hash: hash.finish(),
            has_lower: letters != 0,
            has_upper: capitals | first != 0,
            has_digits: digits != 0,
            count: end - start,
            has_inner_capital: capitals != 0,
            starts_with_capital: first != 0,
        })
    }

    /// The same, letter by letter, beyond ASCII.
    fn wide_word(text: &str, start: usize) -> Option<Reading> {
        let mut hash = WordHash::default();
        let mut reading = Reading {
            end: start,
            hash: 0,
            has_lower: false,
            has_upper: false,
            has_digits: false,
            count: 0,
            has_inner_capital: false,
            starts_with_capital: false,
        };
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

    #[inline]
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
