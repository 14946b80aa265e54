//! JSON string escapes, undone and made, with a way back from each place in the text to the bytes it came from.
//!
//! Takes only strings that the tokens have checked.

use crate::mask::eight::{Eight, place};
use memchr::{memchr, memchr_iter};
use understudy_call::wire::escaped_unit;

/// A string without its escapes.
#[derive(Default)]
pub(super) struct Decoded {
    pub(super) text: String,
    /// After each escape: its end in `text`, and in the raw string.
    marks: Vec<(usize, usize)>,
}

impl Decoded {
    /// Undoes the escapes. A lone surrogate becomes U+FFFD here, and stays as it is in the raw string.
    pub(super) fn new(raw: &str) -> Decoded {
        let mut decoded = Decoded {
            text: String::with_capacity(raw.len()),
            marks: Vec::with_capacity(memchr_iter(b'\\', raw.as_bytes()).count()),
        };
        let mut rest = raw;
        while let Some(at) = backslash(rest.as_bytes()) {
            decoded.text.push_str(&rest[..at]);
            let (letter, width) = escape(&rest[at..]);
            decoded.text.push(letter);
            rest = &rest[at + width..];
            decoded.marks.push((decoded.text.len(), raw.len() - rest.len()));
        }
        decoded.text.push_str(rest);
        decoded
    }

    /// The raw place of a place in the text.
    pub(super) fn raw_place(&self, place: usize) -> usize {
        let before = self.marks.partition_point(|(decoded, _)| *decoded <= place);
        let (decoded, raw) = before.checked_sub(1).map_or((0, 0), |last| self.marks[last]);
        raw + (place - decoded)
    }
}

/// The first backslash; in JSON inside JSON it is near.
#[inline]
fn backslash(bytes: &[u8]) -> Option<usize> {
    for start in (0..bytes.len().min(32)).step_by(8) {
        let marks = Eight::at(bytes, start).is(b'\\');
        if marks != 0 {
            return Some(start + place(marks));
        }
    }
    memchr(b'\\', bytes.get(32..)?).map(|at| at + 32)
}

/// The letter of the escape that `raw` begins with, and the escape's width.
fn escape(raw: &str) -> (char, usize) {
    let letter = match raw.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode(raw),
        Some(other) => char::from(*other),
        None => return (char::REPLACEMENT_CHARACTER, raw.len()),
    };
    (letter, 2)
}

fn unicode(raw: &str) -> (char, usize) {
    let Some(first) = escaped_unit(raw.as_bytes()) else {
        return (char::REPLACEMENT_CHARACTER, raw.len().min(2));
    };
    if let Some(letter) = char::from_u32(first) {
        return (letter, 6);
    }
    let second =
        escaped_unit(&raw.as_bytes()[6..]).filter(|second| (0xdc00..0xe000).contains(second) && first < 0xdc00);
    let pair = second.and_then(|second| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)));
    pair.map_or((char::REPLACEMENT_CHARACTER, 6), |letter| (letter, 12))
}

/// Text as the inside of a JSON string.
pub(super) fn escaped(text: String) -> String {
    if !text.bytes().any(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            control if (control as u32) < 0x20 => escaped.push_str(&format!("\\u{:04x}", control as u32)),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_undone_and_places_lead_back() {
        let raw = r#"a\u0040b\n\ud83d\ude42\ud800x\"é"#;
        let decoded = Decoded::new(raw);
        assert_eq!(decoded.text, "a@b\n🙂\u{fffd}x\"é");
        for (text, raw_text) in [
            ("@", "\\u0040"),
            ("🙂", "\\ud83d\\ude42"),
            ("\u{fffd}", "\\ud800"),
            ("x", "x"),
            ("\"", "\\\""),
            ("é", "é"),
        ] {
            let start = decoded.text.find(text).unwrap();
            let raw_range = decoded.raw_place(start)..decoded.raw_place(start + text.len());
            assert_eq!(&raw[raw_range], raw_text);
        }
    }

    proptest! {
        #[test]
        fn escaping_and_undoing_agree_with_serde_json(text in any::<String>()) {
            let raw = escaped(text.clone());
            prop_assert_eq!(&Decoded::new(&raw).text, &text);
            let parsed: String = serde_json::from_str(&format!("\"{raw}\"")).unwrap();
            prop_assert_eq!(&parsed, &text);
            let theirs = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(&Decoded::new(&theirs[1..theirs.len() - 1]).text, &text);
        }
    }
}
