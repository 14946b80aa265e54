//! Surrogates of what is written in words or in code: names, addresses, dictionary entries; secrets and record numbers.
//!
//! A word becomes a word of syllables whose last two seal it, the same for each value that it is part of: so a first
//! name alone is still the first name. What is code keeps its length and classes, and its last characters are the seal.

use super::Surrogates;
use super::stream::Stream;
use crate::mask::kind::Kind;
use crate::mask::lexicon::{Flags, Lexicon};
use crate::mask::secret::{looks, public_prefix};
use understudy_call::features::is_surrogate_word;

/// Letters of a word before its seal of two syllables.
const BODY: usize = 6;

const KEPT: Flags = Flags::PARTICLE
    .or(Flags::STREET_AFTER)
    .or(Flags::STREET_BEFORE)
    .or(Flags::STREET_BEFORE_NUMBER);

impl Surrogates {
    /// Words by words, digits by digits.
    pub(super) fn words(&self, kind: Kind, value: &str) -> String {
        let mut stream = self.stream(kind, value.to_lowercase().as_bytes());
        let mut surrogate = String::with_capacity(value.len() + 16);
        let mut is_sealed = false;
        for run in runs(value) {
            if is_letters(run) && is_kept(kind, run) && run.len() < value.len() {
                surrogate += run;
            } else if is_letters(run) && run.chars().nth(1).is_some() {
                surrogate += &self.word(kind, run);
                is_sealed = true;
            } else {
                let drawn = run.chars().map(|letter| match letter {
                    _ if letter.is_alphanumeric() => stream.like(letter),
                    other => other,
                });
                surrogate.extend(drawn);
            }
        }
        if !is_sealed && value.contains(char::is_alphabetic) {
            surrogate.push(' ');
            surrogate += &self.word(kind, value);
        }
        surrogate
    }

    fn word(&self, kind: Kind, word: &str) -> String {
        let mut sealed = self.stream(kind, word.to_lowercase().as_bytes()).syllables(BODY / 2);
        sealed += &self.word_seal(&sealed);
        let mut letters = word.chars().filter(|letter| letter.is_alphabetic());
        let is_capital = letters.next().is_some_and(char::is_uppercase);
        match (is_capital, letters.next().map(char::is_uppercase)) {
            (true, Some(true)) => sealed.to_uppercase(),
            (true, _) => sealed[..1].to_uppercase() + &sealed[1..],
            (false, _) => sealed,
        }
    }

    fn word_seal(&self, body: &str) -> String {
        let mut seal = self.seal("word", body.as_bytes());
        seal.syllables(1) + &seal.last_syllable()
    }

    /// Whether a word is in it that was made here.
    pub(super) fn has_sealed_word(&self, value: &str) -> bool {
        runs(value).any(|run| {
            is_surrogate_word(run) && {
                let lower = run.to_ascii_lowercase();
                self.word_seal(&lower[..BODY]) == lower[BODY..]
            }
        })
    }

    /// Same length, what only tells its kind kept, each letter and digit by one of its class.
    pub(super) fn code(&self, kind: Kind, value: &str) -> String {
        let mut stream = self.stream(kind, value.as_bytes());
        // A surrogate must not look as if it had another prefix, nor like text that only stands for a credential.
        let mut code = self.drawn(value, &mut stream);
        for _ in 0..16 {
            if prefix(&code) == prefix(value) && looks(&code) == looks(value) {
                break;
            }
            code = self.drawn(value, &mut stream);
        }
        code
    }

    fn drawn(&self, value: &str, stream: &mut Stream) -> String {
        let mut code = Code::of(value);
        for (index, place) in code.free.iter().enumerate() {
            let letter = code.letters[*place];
            code.letters[*place] = match letter {
                // A number stays one.
                '0' if index == 0 => '0',
                '1'..='9' if index == 0 => char::from(stream.pick(b"123456789")),
                letter => stream.like(letter),
            };
        }
        for letter in &mut code.letters {
            // Nothing in it is to look like an address.
            if *letter == '@' {
                *letter = '_';
            }
        }
        let seal = self.code_seal(&code);
        let sealed = code.free.len() - code.sealed();
        for (place, letter) in code.free[sealed..].iter().zip(seal) {
            code.letters[*place] = letter;
        }
        code.letters.into_iter().collect()
    }

    /// The last free characters, as they must be after those before them.
    fn code_seal(&self, code: &Code) -> Vec<char> {
        let (body, sealed) = code.free.split_at(code.free.len() - code.sealed());
        let body: String = body.iter().map(|place| code.letters[*place]).collect();
        let mut stream: Stream = self.seal("code", body.as_bytes());
        sealed.iter().map(|place| stream.like(code.letters[*place])).collect()
    }

    pub(super) fn is_code(&self, value: &str) -> bool {
        let code = Code::of(value);
        let sealed = &code.free[code.free.len() - code.sealed()..];
        let is_ascii = code.free.iter().all(|place| code.letters[*place].is_ascii());
        !sealed.is_empty()
            && is_ascii
            && sealed
                .iter()
                .zip(self.code_seal(&code))
                .all(|(place, letter)| code.letters[*place] == letter)
    }
}

/// A value of letters and digits in no language.
struct Code {
    letters: Vec<char>,
    /// Places of those that are drawn anew.
    free: Vec<usize>,
}

impl Code {
    fn of(value: &str) -> Code {
        let (head, tail) = if value.starts_with("-----BEGIN") {
            key_block_lines(value)
        } else {
            (prefix(value), value.len())
        };
        let mut letters = Vec::with_capacity(value.len());
        let mut free = Vec::new();
        let mut is_escaped = false;
        for (at, letter) in value.char_indices() {
            // In escaped text the letter after a backslash is part of the escape.
            let is_kept = is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            let is_drawn = letter.is_ascii_alphanumeric() || !letter.is_ascii();
            if (head..tail).contains(&at) && is_drawn && !is_kept {
                free.push(letters.len());
            }
            letters.push(letter);
        }
        Code { letters, free }
    }

    /// How many of the free characters are the seal; a short code can spare few.
    fn sealed(&self) -> usize {
        match self.free.len() {
            0..4 => 0,
            4..6 => 2,
            6..10 => 3,
            10..12 => 4,
            12..16 => 5,
            16..24 => 6,
            _ => 8,
        }
    }
}

/// How many bytes of a code tell only what it is.
fn prefix(value: &str) -> usize {
    if value.starts_with("MRN") {
        3
    } else {
        public_prefix(value)
    }
}

/// Letters, digits and what is between them, each in one piece.
fn runs(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let first = class(rest.chars().next()?);
        let end = rest.find(|letter| class(letter) != first).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some(run)
    })
}

fn class(letter: char) -> u8 {
    match letter {
        _ if letter.is_alphabetic() => 0,
        '0'..='9' => 1,
        _ => 2,
    }
}

fn is_letters(run: &str) -> bool {
    run.starts_with(char::is_alphabetic)
}

/// `van`, `Street`: these tell nothing of whom.
fn is_kept(kind: Kind, run: &str) -> bool {
    matches!(kind, Kind::Person | Kind::StreetAddress) && Lexicon::shared().flags_of(run).any(KEPT)
}

/// Where the first line of a key block ends and its last begins.
fn key_block_lines(value: &str) -> (usize, usize) {
    let head = value.find("KEY").map_or(0, |at| {
        value[at..].find("-----").map_or(value.len(), |dashes| at + dashes + 5)
    });
    let tail = value
        .rfind("-----END")
        .filter(|tail| *tail >= head)
        .unwrap_or(value.len());
    (head, tail)
}
