//! Text as words: where each begins and ends, how it is written, what stands before it, and what is known of it.
//!
//! A word is a run of letters and digits of any script. Folding takes case and accents off Latin letters, so that
//! `José`, `JOSE` and `jose` are one word.

mod read;
mod role;

pub(super) use role::Role;

use super::fold::Folded;
use super::lexicon::{Flags, Lexicon};
use read::{Reading, is_separator};

/// How a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `anna`; also letters of scripts without case.
    Lower,
    /// `Anna`, `McDonald`.
    Title,
    /// `ANNA`.
    Upper,
    /// One capital letter.
    Initial,
    /// Digits alone.
    Number,
    /// Letters and digits, or capitals inside: `A4`, `OpenAI`.
    Code,
}

/// What stands between a word and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing: the first word of the text.
    Start,
    Space,
    Hyphen,
    Apostrophe,
    /// A full stop and a space.
    Stop,
    /// A full stop alone.
    Dot,
    /// A comma, with or without a space.
    Comma,
    /// A line's end, `\n` in escaped text too.
    Line,
    Other,
}

/// One word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    start: u32,
    end: u32,
    pub(super) flags: Flags,
    pub(super) shape: Shape,
    /// What stands before it.
    pub(super) gap: Gap,
    has_digits: bool,
}

/// What pages are written on. It is used again, so that a short text costs no allocation.
#[derive(Default)]
pub(super) struct Paper {
    words: Vec<Word>,
    /// The words that a rule may begin at, in order.
    places: Vec<(u32, Role)>,
}

/// A text, cut into words.
pub(super) struct Page<'t> {
    pub(super) text: &'t str,
    paper: Paper,
}

impl<'t> Page<'t> {
    /// Cuts a text of less than 4 GiB.
    pub(super) fn new(text: &'t str, lexicon: &Lexicon) -> Page<'t> {
        Page::on(Paper::default(), text, lexicon)
    }

    /// The same, on paper that may be used.
    pub(super) fn on(mut paper: Paper, text: &'t str, lexicon: &Lexicon) -> Page<'t> {
        paper.words.clear();
        paper.places.clear();
        let bytes = text.as_bytes();
        let (mut at, mut last_end) = (0, 0);
        let mut last: Option<Word> = None;
        while let Some(&byte) = bytes.get(at) {
            if is_separator(byte) {
                at += 1;
                // The letter of an escape belongs to no word.
                at += usize::from(byte == b'\\' && matches!(bytes.get(at), Some(b'n' | b't' | b'r' | b'b' | b'f')));
                continue;
            }
            let Some(read) = Reading::word(text, at) else {
                // A sign beyond ASCII.
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let word = Word {
                start: at as u32,
                end: read.end as u32,
                flags: lexicon.flags(read.hash),
                shape: read.shape(&bytes[at..read.end]),
                gap: last.map_or(Gap::Start, |_| gap_of(&bytes[last_end..at])),
                has_digits: read.has_digits(),
            };
            if let Some(last) = last.replace(word) {
                paper.add(last, Some(&word), bytes);
            }
            at = read.end;
            last_end = at;
        }
        if let Some(last) = last {
            paper.add(last, None, bytes);
        }
        Page { text, paper }
    }

    /// The paper, to be used again.
    pub(super) fn into_paper(self) -> Paper {
        self.paper
    }

    /// The words that a rule may begin at, in order.
    pub(super) fn places(&self, role: Role) -> impl Iterator<Item = usize> {
        let has_role = move |(_, roles): &&(u32, Role)| roles.any(role);
        self.paper
            .places
            .iter()
            .filter(has_role)
            .map(|(index, _)| *index as usize)
    }

    pub(super) fn has_digits(&self) -> bool {
        self.places(Role::DIGITS).next().is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.paper.words.len()
    }

    pub(super) fn word(&self, index: usize) -> Option<&Word> {
        self.paper.words.get(index)
    }

    /// Whether a word is any of `flags`; a word that is not there is nothing.
    pub(super) fn is(&self, index: usize, flags: Flags) -> bool {
        self.paper.words.get(index).is_some_and(|word| word.flags.any(flags))
    }

    /// What stands before a word; `Other` past the last.
    pub(super) fn gap(&self, index: usize) -> Gap {
        self.paper.words.get(index).map_or(Gap::Other, |word| word.gap)
    }

    pub(super) fn shape(&self, index: usize) -> Option<Shape> {
        self.paper.words.get(index).map(|word| word.shape)
    }

    pub(super) fn start(&self, index: usize) -> usize {
        self.paper
            .words
            .get(index)
            .map_or(self.text.len(), |word| word.start as usize)
    }

    pub(super) fn end(&self, index: usize) -> usize {
        self.paper
            .words
            .get(index)
            .map_or(self.text.len(), |word| word.end as usize)
    }

    /// A word as it is written.
    pub(super) fn written(&self, index: usize) -> &'t str {
        &self.text[self.start(index)..self.end(index)]
    }

    /// A word, folded.
    pub(super) fn folded(&self, index: usize) -> Folded {
        Folded::new(self.written(index))
    }

    /// What stands between a word and the one before it, or the text's start.
    pub(super) fn before(&self, index: usize) -> &'t str {
        let end = index.checked_sub(1).map_or(0, |previous| self.end(previous));
        &self.text[end.min(self.start(index))..self.start(index)]
    }

    /// What stands after a word, up to the next one or the text's end.
    pub(super) fn after(&self, index: usize) -> &'t str {
        &self.text[self.end(index)..self.start(index + 1)]
    }
}

impl Paper {
    #[inline]
    fn add(&mut self, word: Word, next: Option<&Word>, bytes: &[u8]) {
        let role = role::of(&word, next, bytes);
        if role != Role::NONE {
            self.places.push((self.words.len() as u32, role));
        }
        self.words.push(word);
    }
}

#[inline]
fn gap_of(between: &[u8]) -> Gap {
    if between == b" " {
        return Gap::Space;
    }
    match between {
        [0xc2, 0xa0] => Gap::Space,
        b"-" | [0xe2, 0x80, 0x90 | 0x91] => Gap::Hyphen,
        b"'" | [0xe2, 0x80, 0x99] => Gap::Apostrophe,
        b". " => Gap::Stop,
        b"." => Gap::Dot,
        b"," | b", " => Gap::Comma,
        _ if between.contains(&b'\n') || between.windows(2).any(|pair| pair == b"\\n") => Gap::Line,
        _ => Gap::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(text: &str) -> Page<'_> {
        Page::new(text, Lexicon::shared())
    }

    #[test]
    fn words_know_their_shape_and_what_is_before_them() {
        use Gap::{Apostrophe, Comma, Dot, Hyphen, Line, Other, Space, Start, Stop};
        use Shape::{Code, Initial, Lower, Number, Title, Upper};
        let page = page("Dear ANNA-maria o'McDonald J. x, A4.b 12\n(OpenAI");
        let seen: Vec<_> = (0..page.len())
            .map(|index| (page.written(index), page.shape(index).unwrap(), page.gap(index)))
            .collect();
        let expected = [
            ("Dear", Title, Start),
            ("ANNA", Upper, Space),
            ("maria", Lower, Hyphen),
            ("o", Lower, Space),
            ("McDonald", Title, Apostrophe),
            ("J", Initial, Space),
            ("x", Lower, Stop),
            ("A4", Code, Comma),
            ("b", Lower, Dot),
            ("12", Number, Space),
            ("OpenAI", Code, Line),
        ];
        assert_eq!(seen, expected);
        assert_eq!(super::Page::new("a(b", Lexicon::shared()).gap(1), Other);
    }

    #[test]
    fn accents_and_escapes_are_seen_through() {
        let page = page("\\nJos\u{e9} JOSE\u{301} “Gro\u{df}” Ślęzak");
        let folded: Vec<String> = (0..page.len())
            .map(|index| page.folded(index).as_str().to_owned())
            .collect();
        assert_eq!(folded, ["jose", "jose", "gross", "slezak"]);
        assert!(page.is(0, Flags::GIVEN) && page.is(1, Flags::GIVEN));
        assert_eq!(page.shape(0), Some(Shape::Title));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_in_order(text in any::<String>()) {
            let page = page(&text);
            let mut end = 0;
            for index in 0..page.len() {
                prop_assert!(page.start(index) >= end && page.end(index) > page.start(index));
                end = page.end(index);
                page.folded(index).as_str();
                page.before(index);
                page.after(index);
            }
        }
    }
}
