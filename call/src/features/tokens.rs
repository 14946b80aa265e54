//! Cuts prompt text into words and placeholders.
//!
//! A literal (number, id, address, quoted value: whatever a mask may replace) becomes a placeholder, so that text
//! gives the same tokens before and after masking. Works on bytes, in one pass; never allocates, never fails.

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A word of the language, case ignored.
    Word,
    /// A word with a digit in it: number, date, id.
    Number,
    /// A short quoted value; quoted keys (followed by a colon) are words.
    Quoted,
    /// An e-mail address, URL or the like.
    Address,
}

impl Kind {
    /// How a placeholder is shown; empty for a word, which shows itself.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Kind::Word => "",
            Kind::Number => "<n>",
            Kind::Quoted => "<quoted>",
            Kind::Address => "<address>",
        }
    }

    fn hash(self) -> u64 {
        match self {
            Kind::Word => 0,
            Kind::Number => 0x9d5c_7f3a_21b4_e601,
            Kind::Quoted => 0x51e3_0c8d_94fa_7b27,
            Kind::Address => 0xc2f9_6a15_d870_3e4d,
        }
    }
}

/// A piece of text: its kind, its bytes, and the hash of its word or placeholder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) hash: u64,
}

/// The longest quoted value, in bytes, that counts as a literal; longer quotations are prose.
const QUOTED: usize = 96;
/// The longest local part of an e-mail address.
const LOCAL_PART: usize = 64;
/// A longer ASCII word is an id, whatever its letters.
const WORD: usize = 32;

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The hash of a word that a mask put in; phrases with it say nothing, as those with a name do that is not masked.
pub(crate) const SURROGATE: u64 = 0x3b1e_97d2_6c05_a84f;
/// Letters of such a word.
pub(crate) const SURROGATE_LETTERS: usize = 10;
/// In its last syllable; hardly a word of any language is otherwise of its form.
const RARE: &[u8] = b"jqx";

/// Whether a word has the form of those that the mask puts in the place of names: five syllables of one consonant and one
/// vowel, the last with a rare consonant.
pub(crate) fn is_surrogate(word: &[u8]) -> bool {
    let is_vowel = |byte: &u8| b"aeiou".contains(&byte.to_ascii_lowercase());
    word.len() == SURROGATE_LETTERS
        && RARE.contains(&word[SURROGATE_LETTERS - 2].to_ascii_lowercase())
        && word
            .chunks(2)
            .all(|pair| pair[0].is_ascii_alphabetic() && !is_vowel(&pair[0]) && is_vowel(&pair[1]))
}

/// Calls `emit` for every token of `text`, in order. Neighbouring placeholders of one kind in a line are one token.
pub(crate) fn scan(text: &[u8], mut emit: impl FnMut(Token)) {
    let addresses = memchr::memchr(b'@', text).is_some() || memchr::memmem::find(text, b"://").is_some();
    let mut open: Option<Token> = None;
    let mut at = 0;
    while at < text.len() {
        let token = match text[at] {
            b'"' | b'\'' => quoted(text, at),
            byte if is_word(byte) => Some(word(text, at, addresses)),
            b'\n' => {
                open.take().into_iter().for_each(&mut emit);
                None
            }
            _ => None,
        };
        let Some(token) = token else {
            at += 1;
            continue;
        };
        at = token.end;
        match &mut open {
            Some(placeholder) if placeholder.kind == token.kind => placeholder.end = token.end,
            _ => {
                open.take().into_iter().for_each(&mut emit);
                if token.kind == Kind::Word {
                    emit(token)
                } else {
                    open = Some(token)
                }
            }
        }
    }
    open.into_iter().for_each(emit);
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// A quoted value that opens at `at`; `None` for an apostrophe, a key, or a quotation too long to be a literal.
fn quoted(text: &[u8], at: usize) -> Option<Token> {
    let quote = text[at];
    if at > 0 && is_word(text[at - 1]) {
        return None;
    }
    let inside = &text[at + 1..text.len().min(at + 1 + QUOTED)];
    if inside
        .first()
        .is_none_or(|byte| byte.is_ascii_whitespace() || *byte == quote)
    {
        return None;
    }
    let mut from = 0;
    let length = loop {
        let stop = from + memchr::memchr2(quote, b'\n', &inside[from..])?;
        if inside[stop] == b'\n' {
            return None;
        }
        // An apostrophe inside a single-quoted value is followed by a letter.
        let after = text.get(at + 1 + stop + 1).copied().unwrap_or(b' ');
        if quote == b'"' || !is_word(after) {
            break stop;
        }
        from = stop + 1;
    };
    let end = at + 1 + length + 1;
    let rest = &text[end..text.len().min(end + 2)];
    if rest.iter().find(|byte| **byte != b' ') == Some(&b':') {
        return None;
    }
    Some(Token {
        kind: Kind::Quoted,
        start: at,
        end,
        hash: Kind::Quoted.hash(),
    })
}

/// The word, number or address that begins at `start`.
fn word(text: &[u8], start: usize, addresses: bool) -> Token {
    if addresses && let Some(end) = address(text, start) {
        return Token {
            kind: Kind::Address,
            start,
            end,
            hash: Kind::Address.hash(),
        };
    }
    if text[start] >= 0xe0 {
        // Scripts without spaces: a character is a word.
        let width = if text[start] >= 0xf0 { 4 } else { 3 };
        let end = text.len().min(start + width);
        return Token {
            kind: Kind::Word,
            start,
            end,
            hash: hash(&text[start..end]),
        };
    }
    let (mut end, mut digit, mut hash) = (start, false, OFFSET);
    while end < text.len() && is_word(text[end]) && text[end] < 0xe0 {
        digit |= text[end].is_ascii_digit();
        hash = (hash ^ u64::from(text[end].to_ascii_lowercase())).wrapping_mul(PRIME);
        end += 1;
    }
    if digit || end - start > WORD {
        return Token {
            kind: Kind::Number,
            start,
            end,
            hash: Kind::Number.hash(),
        };
    }
    Token {
        kind: Kind::Word,
        start,
        end,
        hash: if is_surrogate(&text[start..end]) {
            SURROGATE
        } else {
            hash
        },
    }
}

/// Where the e-mail address or URL that begins at `start` ends.
fn address(text: &[u8], start: usize) -> Option<usize> {
    let window = &text[start..text.len().min(start + LOCAL_PART)];
    let local = window
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && !b"._%+-".contains(byte))?;
    let rest = &window[local..];
    let is_address =
        rest.starts_with(b"://") || (rest[0] == b'@' && rest.get(1).is_some_and(u8::is_ascii_alphanumeric));
    if !is_address {
        return None;
    }
    let tail = &text[start + local..];
    let length = tail
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || b"\"'<>()[]{},;`".contains(byte));
    Some(start + local + length.unwrap_or(tail.len()))
}

/// FNV-1a, case ignored. Part of the book's format: it must never change within a schema.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let mut tokens = Vec::new();
        scan(text.as_bytes(), |token| {
            let word = String::from_utf8_lossy(&text.as_bytes()[token.start..token.end]).into_owned();
            tokens.push(if token.kind == Kind::Word {
                word
            } else {
                token.kind.placeholder().to_owned()
            });
        });
        tokens
    }

    #[test]
    fn literals_become_placeholders() {
        assert_eq!(
            shown("Invoice 4711 of 1,234.50 EUR"),
            ["Invoice", "<n>", "of", "<n>", "EUR"]
        );
        assert_eq!(shown("on 2024-05-15 15:00:00 EST\n7"), ["on", "<n>", "EST", "<n>"]);
        assert_eq!(shown("mail ann.b+c@example.org, now"), ["mail", "<address>", "now"]);
        assert_eq!(shown("see https://a.b/c?d=1 there"), ["see", "<address>", "there"]);
        assert_eq!(
            shown("ask \"Ann Lee\" or 'Bo's Bar' again"),
            ["ask", "<quoted>", "or", "<quoted>", "again"]
        );
    }

    #[test]
    fn words_of_a_mask_are_known_and_no_others() {
        for word in ["Bakorumexu", "TIDASOLUXA", "lomivetujo"] {
            assert!(is_surrogate(word.as_bytes()), "{word}");
        }
        for word in [
            "generate",
            "Bakorumelu",
            "separately",
            "Bakorumexuk",
            "capitalize",
            "generalize",
            "",
        ] {
            assert!(!is_surrogate(word.as_bytes()), "{word}");
        }
    }

    #[test]
    fn keys_apostrophes_and_long_quotations_stay_words() {
        assert_eq!(shown("{\"name\": \"Ann\"}"), ["name", "<quoted>"]);
        assert_eq!(shown("don't and can't"), ["don", "t", "and", "can", "t"]);
        assert_eq!(shown(&format!("\"{}\"", "word ".repeat(30))).len(), 30);
        assert_eq!(shown("问题"), ["问", "题"]);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_tokens_in_order(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut end = 0;
            scan(&bytes, |token| {
                assert!(token.start >= end && token.end > token.start && token.end <= bytes.len());
                end = token.end;
            });
        }
    }
}
