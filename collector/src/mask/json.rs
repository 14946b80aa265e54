//! The texts that stand in a JSON text: keys, strings and whole numbers, and the way back from each place in them.
//!
//! Never recurses over the depth of the text; JSON inside strings is followed for a few levels.

mod escape;
mod token;

pub use token::JsonError;

use super::scene::Scene;
use escape::{Decoded, escaped};
use std::ops::Range;
use token::{Token, TokenKind, Tokens};

/// How many levels of JSON inside JSON strings are followed.
const NESTING: u8 = 4;
/// Bytes of JSON for each leaf, about: for some room from the beginning.
const BYTES_A_LEAF: usize = 64;
/// Shorter numbers are not sensitive.
const LEAST_DIGITS: usize = 6;

/// A text that stands in the JSON, or the whole of a text that is none.
pub(super) struct Leaf {
    /// The text that it is a part of: 0 for the JSON itself, else one more than the number of what was decoded from it.
    source: usize,
    range: Range<usize>,
    /// How many strings it stands in.
    strings: u8,
    is_number: bool,
    /// What was found in it, by number.
    pub(super) hits: Range<usize>,
}

/// Texts in the order in which they stand, and what was decoded for them.
#[derive(Default)]
pub(super) struct Leaves {
    leaves: Vec<Leaf>,
    decoded: Vec<Nested>,
}

/// A string without its escapes, and where the raw one stands.
struct Nested {
    decoded: Decoded,
    source: usize,
    start: usize,
}

/// Where a text begins, and how deep it stands.
#[derive(Clone, Copy)]
struct Place {
    source: usize,
    start: usize,
    strings: u8,
}

/// Looks at one text, and tells the numbers of what it found.
type Visit<'v> = &'v mut dyn FnMut(Scene<'_>) -> Range<usize>;

impl Leaves {
    /// A text that is no JSON.
    pub(super) fn of_text(text: &str, hits: Range<usize>) -> Leaves {
        Leaves {
            leaves: vec![Leaf {
                source: 0,
                range: 0..text.len(),
                strings: 0,
                is_number: false,
                hits,
            }],
            decoded: Vec::new(),
        }
    }

    /// The texts of a JSON text; `visit` is shown each key, string and whole number.
    pub(super) fn of_json(json: &str, visit: Visit<'_>) -> Result<Leaves, JsonError> {
        let mut leaves = Leaves {
            leaves: Vec::with_capacity(json.len() / BYTES_A_LEAF),
            decoded: Vec::new(),
        };
        let place = Place {
            source: 0,
            start: 0,
            strings: 0,
        };
        leaves.read(json, place, visit)?;
        Ok(leaves)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Leaf> {
        self.leaves.iter()
    }

    /// The text of a leaf; `json` is what it was read from.
    pub(super) fn text<'t>(&'t self, leaf: &Leaf, json: &'t str) -> &'t str {
        let source = match leaf.source.checked_sub(1) {
            Some(index) => &self.decoded[index].decoded.text,
            None => json,
        };
        &source[leaf.range.clone()]
    }

    /// Where a place in a leaf is in the JSON.
    pub(super) fn place(&self, leaf: &Leaf, at: usize) -> usize {
        let (mut source, mut at) = (leaf.source, leaf.range.start + at);
        while let Some(nested) = source.checked_sub(1).map(|index| &self.decoded[index]) {
            at = nested.start + nested.decoded.raw_place(at);
            source = nested.source;
        }
        at
    }

    fn read(&mut self, json: &str, place: Place, visit: Visit<'_>) -> Result<(), JsonError> {
        let mut tokens = Tokens::new(json);
        while let Some(token) = tokens.next()? {
            let scene = Scene::new(&json[token.range.clone()], &json[token.label.clone()]);
            let place = Place {
                start: place.start + token.range.start,
                ..place
            };
            match token.kind {
                TokenKind::Key | TokenKind::Text => self.read_string(scene, &token, place, visit),
                TokenKind::Number if is_long_number(scene.text) => self.add(scene, place, true, visit),
                TokenKind::Number => {}
            }
        }
        Ok(())
    }

    fn read_string(&mut self, scene: Scene<'_>, token: &Token, place: Place, visit: Visit<'_>) {
        let place = Place {
            strings: place.strings + 1,
            ..place
        };
        if !token.is_escaped {
            return self.read_content(scene, place, visit);
        }
        let decoded = Decoded::new(scene.text);
        self.decoded.push(Nested {
            decoded: Decoded::default(),
            source: place.source,
            start: place.start,
        });
        let source = self.decoded.len();
        let inner = Scene {
            text: &decoded.text,
            ..scene
        };
        let inner_place = Place {
            source,
            start: 0,
            ..place
        };
        self.read_content(inner, inner_place, visit);
        self.decoded[source - 1].decoded = decoded;
    }

    /// A string's content: as JSON if it is an object or array, else as text.
    fn read_content(&mut self, scene: Scene<'_>, place: Place, visit: Visit<'_>) {
        if place.strings <= NESTING && may_be_json(scene.text) {
            let (leaves, decoded) = (self.leaves.len(), self.decoded.len());
            if self.read(scene.text, place, visit).is_ok() {
                return;
            }
            self.leaves.truncate(leaves);
            self.decoded.truncate(decoded);
        }
        self.add(scene, place, false, visit);
    }

    fn add(&mut self, scene: Scene<'_>, place: Place, is_number: bool, visit: Visit<'_>) {
        let hits = visit(scene);
        self.leaves.push(Leaf {
            source: place.source,
            range: place.start..place.start + scene.text.len(),
            strings: place.strings,
            is_number,
            hits,
        });
    }
}

impl Leaf {
    pub(super) fn is_number(&self) -> bool {
        self.is_number
    }

    /// What to write in the JSON for a replacement in this leaf.
    pub(super) fn written(&self, mut replacement: String) -> String {
        for _ in 0..self.strings {
            replacement = escaped(replacement);
        }
        replacement
    }
}

/// Whether a text begins as an object or array does.
fn may_be_json(text: &str) -> bool {
    match text.as_bytes().first() {
        Some(b'{' | b'[') => true,
        Some(byte) if byte.is_ascii_graphic() => false,
        _ => text.trim_start().starts_with(['{', '[']),
    }
}

/// A number that may be sensitive.
fn is_long_number(text: &str) -> bool {
    text.len() >= LEAST_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands in a whole number's place: another one.
pub(super) fn whole_number(replacement: String) -> String {
    let starts_right = replacement.starts_with(|letter: char| ('1'..='9').contains(&letter));
    if starts_right && replacement.bytes().all(|byte| byte.is_ascii_digit()) {
        replacement
    } else {
        "0".to_owned()
    }
}
