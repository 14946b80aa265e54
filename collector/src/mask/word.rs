//! Text as words: where each begins and ends, how it is written, what stands before it, and what is known of it.
//!
//! A word is a run of letters and digits of any script. Folding takes case and accents off Latin letters, so that
//! `José`, `JOSE` and `jose` are one word.

use super::lexicon::{Flags, Lexicon, WordHash};

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
}

/// A text, cut into words.
pub(super) struct Page<'t> {
    pub(super) text: &'t str,
    words: Vec<Word>,
}

const SEPARATOR: u8 = 0;
const LOWER: u8 = 1;
const UPPER: u8 = 2;
const DIGIT: u8 = 4;
const WIDE: u8 = 8;

/// The class of each byte.
const CLASSES: [u8; 256] = {
    let mut classes = [SEPARATOR; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => DIGIT,
            0x80.. => WIDE,
            _ => SEPARATOR,
        };
        byte += 1;
    }
    classes
};

impl<'t> Page<'t> {
    /// Cuts a text of less than 4 GiB.
    pub(super) fn new(text: &'t str, lexicon: &Lexicon) -> Page<'t> {
        let bytes = text.as_bytes();
        let mut words = Vec::with_capacity(bytes.len() / 6 + 2);
        let (mut at, mut last_end) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            if CLASSES[usize::from(byte)] == SEPARATOR {
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
            words.push(Word {
                start: at as u32,
                end: read.end as u32,
                flags: lexicon.flags(read.hash),
                shape: read.shape(&bytes[at..read.end]),
                gap: if words.is_empty() {
                    Gap::Start
                } else {
                    gap_of(&bytes[last_end..at])
                },
            });
            at = read.end;
            last_end = at;
        }
        Page { text, words }
    }

    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    pub(super) fn word(&self, index: usize) -> Option<&Word> {
        self.words.get(index)
    }

    /// Whether a word is any of `flags`; a word that is not there is nothing.
    pub(super) fn is(&self, index: usize, flags: Flags) -> bool {
        self.words.get(index).is_some_and(|word| word.flags.any(flags))
    }

    /// What stands before a word; `Other` past the last.
    pub(super) fn gap(&self, index: usize) -> Gap {
        self.words.get(index).map_or(Gap::Other, |word| word.gap)
    }

    pub(super) fn shape(&self, index: usize) -> Option<Shape> {
        self.words.get(index).map(|word| word.shape)
    }

    pub(super) fn start(&self, index: usize) -> usize {
        self.words
            .get(index)
            .map_or(self.text.len(), |word| word.start as usize)
    }

    pub(super) fn end(&self, index: usize) -> usize {
        self.words.get(index).map_or(self.text.len(), |word| word.end as usize)
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

/// A word as it is read.
struct Reading {
    end: usize,
    hash: u64,
    classes: u8,
    /// Letters and digits.
    count: usize,
    /// A letter that is not the first is a capital.
    has_inner_capital: bool,
    starts_with_capital: bool,
}

impl Reading {
    /// The word that begins at `start`; none if a sign stands there.
    fn word(text: &str, start: usize) -> Option<Reading> {
        let rest = &text.as_bytes()[start..];
        let first = CLASSES[usize::from(*rest.first()?)];
        let mut classes = first;
        let mut inner = SEPARATOR;
        let mut length = 1;
        while let Some(&byte) = rest.get(length) {
            let class = CLASSES[usize::from(byte)];
            if class == SEPARATOR {
                break;
            }
            inner |= class;
            length += 1;
        }
        classes |= inner;
        if classes & WIDE != 0 {
            return Reading::wide_word(text, start);
        }
        Some(Reading {
            end: start + length,
            hash: WordHash::of_ascii(&rest[..length]),
            classes,
            count: length,
            has_inner_capital: inner & UPPER != 0,
            starts_with_capital: first == UPPER,
        })
    }

    /// The same, letter by letter, beyond ASCII.
    fn wide_word(text: &str, start: usize) -> Option<Reading> {
        let mut hash = WordHash::default();
        let mut reading = Reading {
            end: start,
            hash: 0,
            classes: 0,
            count: 0,
            has_inner_capital: false,
            starts_with_capital: false,
        };
        for letter in text[start..].chars().take_while(|letter| is_letter(*letter)) {
            let is_capital = letter.is_uppercase();
            reading.starts_with_capital |= is_capital && reading.count == 0;
            reading.has_inner_capital |= is_capital && reading.count > 0;
            reading.classes |= match is_capital {
                _ if letter.is_ascii_digit() => DIGIT,
                true => UPPER,
                false => LOWER,
            };
            reading.count += usize::from(!is_mark(letter));
            reading.end += letter.len_utf8();
            fold(letter, |byte| hash.push(byte));
        }
        reading.hash = hash.finish();
        (reading.count > 0).then_some(reading)
    }

    fn shape(&self, word: &[u8]) -> Shape {
        match self.classes {
            DIGIT => Shape::Number,
            LOWER => Shape::Lower,
            UPPER if self.count == 1 => Shape::Initial,
            UPPER => Shape::Upper,
            _ if self.classes & DIGIT == 0 && self.starts_with_capital => {
                if !self.has_inner_capital || is_prefixed_name(word) {
                    Shape::Title
                } else {
                    Shape::Code
                }
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

/// A folded word, up to a length that no known word reaches.
#[derive(Clone, Copy)]
pub(super) struct Folded {
    bytes: [u8; Folded::BYTES],
    count: usize,
}

impl Folded {
    const BYTES: usize = 24;

    pub(super) fn new(word: &str) -> Folded {
        let mut folded = Folded {
            bytes: [0; Folded::BYTES],
            count: 0,
        };
        for letter in word.chars().take(Folded::BYTES) {
            fold(letter, |byte| {
                if let Some(place) = folded.bytes.get_mut(folded.count) {
                    *place = byte;
                    folded.count += 1;
                }
            });
        }
        folded
    }

    /// The word; empty where its letters beyond Latin were cut.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.count]).unwrap_or_default()
    }
}

/// Gives the bytes of a letter without case and accent.
pub(super) fn fold(letter: char, mut give: impl FnMut(u8)) {
    if letter.is_ascii() {
        return give(letter.to_ascii_lowercase() as u8);
    }
    if is_combining(letter) {
        return;
    }
    if let Some(plain) = plain_letters(letter) {
        return plain.bytes().for_each(give);
    }
    let mut bytes = [0; 4];
    for lower in letter.to_lowercase() {
        lower.encode_utf8(&mut bytes).bytes().for_each(&mut give);
    }
}

fn is_combining(letter: char) -> bool {
    matches!(letter, '\u{300}'..='\u{36f}')
}

/// Latin letters with accents, in the order of Unicode, and what they are without.
fn plain_letters(letter: char) -> Option<&'static str> {
    Some(match letter {
        'À'..='Å' | 'à'..='å' | 'Ā'..='ą' | 'Ǎ' | 'ǎ' | 'Ạ'..='ặ' => "a",
        'Æ' | 'æ' => "ae",
        'Ç' | 'ç' | 'Ć'..='č' => "c",
        'Ď'..='đ' | 'Ð' | 'ð' => "d",
        'È'..='Ë' | 'è'..='ë' | 'Ē'..='ě' | 'Ẹ'..='ệ' => "e",
        'Ĝ'..='ģ' | 'Ǧ' | 'ǧ' => "g",
        'Ĥ'..='ħ' => "h",
        'Ì'..='Ï' | 'ì'..='ï' | 'Ĩ'..='ı' | 'Ỉ'..='ị' => "i",
        'Ĵ' | 'ĵ' => "j",
        'Ķ' | 'ķ' => "k",
        'Ĺ'..='ł' => "l",
        'Ñ' | 'ñ' | 'Ń'..='ŉ' => "n",
        'Ò'..='Ö' | 'Ø' | 'ò'..='ö' | 'ø' | 'Ō'..='ő' | 'Ơ' | 'ơ' | 'Ọ'..='ợ' => "o",
        'Œ' | 'œ' => "oe",
        'Ŕ'..='ř' => "r",
        'Ś'..='š' | 'Ș' | 'ș' => "s",
        'ß' | 'ẞ' => "ss",
        'Ţ'..='ŧ' | 'Ț' | 'ț' => "t",
        'Þ' | 'þ' => "th",
        'Ù'..='Ü' | 'ù'..='ü' | 'Ũ'..='ų' | 'Ư' | 'ư' | 'Ụ'..='ự' => "u",
        'Ŵ' | 'ŵ' => "w",
        'Ý' | 'ý' | 'ÿ' | 'Ŷ'..='Ÿ' | 'Ỳ'..='ỹ' => "y",
        'Ź'..='ž' => "z",
        _ => return None,
    })
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
