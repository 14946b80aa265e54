//! What surrounds a candidate value: the words before it, and whether it stands free.
//!
//! Reads a bounded stretch before a value and never the whole text.

/// A text to look through, and the label it stands under (the JSON key of a string), empty if it has none.
#[derive(Clone, Copy)]
pub(super) struct Scene<'t> {
    pub(super) text: &'t str,
    pub(super) label: &'t str,
    /// Where values are that were found already, sorted: what stands in them is no cue, since it will not stand there when
    /// the text is masked.
    pub(super) values: &'t [(usize, usize)],
}

/// Words to look for, in any case.
pub(super) struct Cues {
    words: &'static [&'static str],
    /// A bit for each pair of a first letter and a length among them: most words are none of them by that alone.
    seen: u128,
}

impl Cues {
    pub(super) const fn new(words: &'static [&'static str]) -> Cues {
        let (mut seen, mut index) = (0, 0);
        while index < words.len() {
            seen |= Cues::bit(words[index].as_bytes());
            index += 1;
        }
        Cues { words, seen }
    }

    const fn bit(word: &[u8]) -> u128 {
        match word {
            [first, ..] => 1 << ((*first & 31) as usize | (word.len() & 3) << 5),
            [] => 0,
        }
    }

    fn holds(&self, word: &[u8]) -> bool {
        let holds = |entry: &&str| word.eq_ignore_ascii_case(entry.as_bytes());
        self.seen & Cues::bit(word) != 0 && self.words.iter().any(holds)
    }
}

/// Words that may stand between a cue and its value: `phone number is …`, `call me at …`.
const LINKS: &Cues = &Cues::new(&[
    "is", "me", "at", "on", "us", "to", "number", "numbers", "no", "nr", "num", "my", "your", "our", "his", "her",
    "their", "the", "a", "an", "via", "of", "or", "and", "back", "new", "under", "with", "in", "for", "value", "as",
    "was", "ist", "lautet", "unter", "est", "au", "le", "la", "el", "es", "al", "por", "favor", "numero", "número",
    "numéro", "nummer", "è", "é", "do", "da", "de", "del", "het", "op", "på", "er",
]);

/// How far back a word may begin.
const WORD_BYTES: usize = 24;

impl<'t> Scene<'t> {
    /// One in which nothing was found yet.
    pub(super) fn new(text: &'t str, label: &'t str) -> Scene<'t> {
        Scene {
            text,
            label,
            values: &[],
        }
    }

    pub(super) fn bytes(&self) -> &'t [u8] {
        self.text.as_bytes()
    }

    /// Whether a cue stands directly before `at`, link words aside. The label is read where the text begins.
    pub(super) fn follows(&self, at: usize, cues: &Cues) -> bool {
        for word in self.words_before(at, false).take(5) {
            if cues.holds(word) {
                return true;
            }
            if !LINKS.holds(word) {
                return false;
            }
        }
        false
    }

    /// Whether a cue is among the last words before `at`, whatever stands between.
    pub(super) fn near(&self, at: usize, cues: &Cues) -> bool {
        self.words_before(at, true).take(8).any(|word| cues.holds(word))
    }

    /// Whether a cue stands directly after `at`, one space or hyphen and an opening parenthesis aside.
    pub(super) fn precedes(&self, at: usize, cues: &Cues) -> bool {
        let rest = self.bytes().get(at..).unwrap_or_default();
        let start = rest
            .iter()
            .take(3)
            .take_while(|byte| matches!(byte, b' ' | b'-' | b'('))
            .count();
        let length = rest[start..]
            .iter()
            .take(WORD_BYTES)
            .take_while(|byte| is_word_byte(**byte))
            .count();
        start > 0 && cues.holds(&rest[start..start + length])
    }

    fn words_before(&self, at: usize, across: bool) -> Words<'t> {
        Words {
            bytes: &self.bytes()[..at],
            label: self.label.as_bytes(),
            across,
            values: &self.values[..self.values.partition_point(|(start, _)| *start < at)],
        }
    }
}

/// The words before a place, the nearest first; camel case and underscores separate words too. A value that was found is
/// one word, which is empty.
struct Words<'t> {
    bytes: &'t [u8],
    label: &'t [u8],
    /// Whether to go on past commas, full stops and line ends.
    across: bool,
    /// Values that begin before what is left of the text.
    values: &'t [(usize, usize)],
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        loop {
            if let Some((&(start, end), before)) = self.values.split_last() {
                if start >= self.bytes.len() {
                    self.values = before;
                    continue;
                }
                if self.bytes.len() <= end {
                    self.bytes = &self.bytes[..start];
                    return Some(&[]);
                }
            }
            let Some(&last) = self.bytes.last() else {
                self.bytes = std::mem::take(&mut self.label);
                self.values = &[];
                if self.bytes.is_empty() {
                    return None;
                }
                continue;
            };
            if is_word_byte(last) {
                return Some(self.take_word());
            }
            let goes_on = self.across || is_filler(last) || (last == b'.' && self.ends_abbreviation());
            if !goes_on {
                self.bytes = &[];
                self.label = &[];
                return None;
            }
            self.bytes = &self.bytes[..self.bytes.len() - 1];
        }
    }
}

impl<'t> Words<'t> {
    fn take_word(&mut self) -> &'t [u8] {
        let bytes = self.bytes;
        let mut start = bytes.len();
        let first = self.values.last().map_or(0, |(_, end)| *end);
        while start > first && bytes.len() - start < WORD_BYTES && is_word_byte(bytes[start - 1]) {
            start -= 1;
            let is_capital_inside =
                bytes[start].is_ascii_uppercase() && start > 0 && bytes[start - 1].is_ascii_lowercase();
            if is_capital_inside && !bytes[..start].ends_with(b"Whats") {
                break;
            }
        }
        // In text that is JSON-escaped, the `n` of `\n` belongs to no word.
        let word_start = start + usize::from(is_escape_letter(bytes, start));
        self.bytes = &bytes[..start];
        &bytes[word_start..]
    }

    /// `tel.`, `no.`: a full stop that ends no sentence.
    fn ends_abbreviation(&self) -> bool {
        let stem = &self.bytes[..self.bytes.len() - 1];
        let letters = stem.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
        (1..=4).contains(&letters)
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

fn is_filler(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'"' | b'\'' | b'\\' | b':' | b'=' | b'(' | b'[' | b'>' | b'-' | b'*' | b'`' | b'_' | b'+'
    )
}

/// Whether `bytes[at]` is the letter of a backslash escape (`\n`, `\t`), as in JSON that is read as text.
pub(super) fn is_escape_letter(bytes: &[u8], at: usize) -> bool {
    at > 0 && bytes[at - 1] == b'\\' && matches!(bytes.get(at), Some(b'n' | b't' | b'r' | b'b' | b'f'))
}

/// Whether a value may begin at `at`: no letter, digit or underscore stands before it.
pub(super) fn is_free_before(text: &str, at: usize) -> bool {
    let Some(last) = text[..at].chars().next_back() else {
        return true;
    };
    if last.is_ascii_alphanumeric() {
        return is_escape_letter(text.as_bytes(), at - 1);
    }
    let is_letter = last.is_alphanumeric() && !has_no_spaces(last);
    !is_letter && last != '_'
}

/// Whether a number may end at `end`: it doesn't go on as a word, a decimal or a hyphenated id.
pub(super) fn is_free_after(bytes: &[u8], end: usize) -> bool {
    let next = bytes.get(end).copied().unwrap_or(b' ');
    let after = bytes.get(end + 1).copied().unwrap_or(b' ');
    match next {
        b'_' => false,
        b'-' => !after.is_ascii_alphanumeric(),
        b'.' | b',' => !after.is_ascii_digit() || next == b',',
        _ => !next.is_ascii_alphanumeric(),
    }
}

/// Scripts that are written without spaces between words.
pub(super) fn has_no_spaces(letter: char) -> bool {
    matches!(letter, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUES: &Cues = &Cues::new(&["phone", "tel"]);

    fn follows(text: &str, label: &str) -> bool {
        Scene::new(text, label).follows(text.len(), CUES)
    }

    #[test]
    fn a_cue_is_seen_through_links_quotes_and_case() {
        for text in [
            "phone: ",
            "Tel. ",
            "{\"phone\":\"",
            "\\\"userPhoneNumber\\\": \\\"",
            "\\nphone=",
            "phone number is ",
            "PHONE_NO = ",
        ] {
            assert!(follows(text, ""), "{text}");
        }
        for text in ["phone, ticket ", "phones ", "phone id ", "my phone broke. ", ""] {
            assert!(!follows(text, ""), "{text}");
        }
    }

    #[test]
    fn the_label_is_read_where_the_text_begins() {
        assert!(follows("", "contactPhone"));
        assert!(follows("+", "phone"));
        assert!(!follows("ticket ", "phone"));
    }

    #[test]
    fn near_looks_past_punctuation() {
        let text = "my phone broke. Ring ";
        assert!(Scene::new(text, "").near(text.len(), CUES));
        assert!(!Scene::new("ring ", "").near(5, CUES));
    }

    #[test]
    fn what_stands_in_a_value_is_no_cue() {
        let text = "phone x7tel ";
        let seen = |values: &[(usize, usize)]| {
            let scene = Scene {
                values,
                ..Scene::new(text, "")
            };
            (scene.follows(text.len(), CUES), scene.near(text.len(), CUES))
        };
        assert_eq!(seen(&[]), (false, true));
        assert_eq!(seen(&[(6, 11)]), (false, true));
        assert_eq!(seen(&[(0, 11)]), (false, false));
        let tel = "phone tel ";
        let scene = Scene {
            values: &[(6, 9), (20, 30)],
            ..Scene::new(tel, "")
        };
        assert!(!scene.follows(tel.len(), CUES) && scene.near(tel.len(), CUES));
    }

    #[test]
    fn a_number_ends_where_nothing_goes_on() {
        assert!(is_free_after(b"12.", 2) && is_free_after(b"12, 3", 2) && is_free_after(b"12", 2));
        assert!(!is_free_after(b"12.5", 2) && !is_free_after(b"12a", 2) && !is_free_after(b"12-a", 2));
        assert!(is_free_before("号12", 3) && is_free_before("\\n12", 2) && !is_free_before("é12", 2));
    }
}
