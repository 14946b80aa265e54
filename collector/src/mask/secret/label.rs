//! Labels that say a credential follows: `password`, `api_key`, `client-secret`, `token`.
//!
//! Decides by the value too: prose and code that only speak of a password stay.

use super::{Body, is_random, run_length};
use crate::mask::hit::Hit;
use crate::mask::kind::Kind;
use crate::mask::letters::Letters;

/// What a label's value has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// Chosen by a person: short, but not a plain word.
    Password,
    /// Made by a machine: long and random.
    Key,
    /// The same, but the word also counts and pages.
    Token,
}

/// Bounds on a labelled value.
pub(super) const LEAST_BYTES: usize = 6;
pub(super) const MOST_BYTES: usize = 1024;

/// Signs that passwords have and words don't.
const MARKS: &[u8] = b"!@#$%^&*+=?";

const WORDS: &[(&str, Label)] = &[
    ("password", Label::Password),
    ("passwd", Label::Password),
    ("passphrase", Label::Password),
    ("passcode", Label::Password),
    ("pass", Label::Password),
    ("pwd", Label::Password),
    ("passwort", Label::Password),
    ("contraseña", Label::Password),
    ("secret", Label::Key),
    ("api_key", Label::Key),
    ("apikey", Label::Key),
    ("api-key", Label::Key),
    ("api key", Label::Key),
    ("access_key", Label::Key),
    ("access-key", Label::Key),
    ("accesskey", Label::Key),
    ("private_key", Label::Key),
    ("encryption_key", Label::Key),
    ("signing_key", Label::Key),
    ("auth_key", Label::Key),
    ("access key", Label::Key),
    ("private key", Label::Key),
    ("shared_key", Label::Key),
    ("master_key", Label::Key),
    ("license_key", Label::Key),
    ("credential", Label::Key),
    ("signature=", Label::Key),
    ("token", Label::Token),
];

/// The letters of each.
pub(super) const LETTERS: [Letters; WORDS.len()] = {
    let mut letters = [Letters::of(""); WORDS.len()];
    let mut index = 0;
    while index < WORDS.len() {
        letters[index] = Letters::of(WORDS[index].0);
        index += 1;
    }
    letters
};

/// Each word as it is spelt: `api_key`, `Api_key`, `API_KEY`, and `apiKey` by its own rule.
pub(super) fn spellings() -> impl Iterator<Item = (String, Label)> {
    let camel = [
        ("apiKey", Label::Key),
        ("ApiKey", Label::Key),
        ("Api-Key", Label::Key),
        ("Access-Key", Label::Key),
        ("accessKey", Label::Key),
        ("AccessKey", Label::Key),
        ("privateKey", Label::Key),
    ];
    let cased = WORDS.iter().flat_map(|(word, label)| {
        let capital = word[..1].to_ascii_uppercase() + &word[1..];
        [
            ((*word).to_owned(), *label),
            (capital, *label),
            (word.to_uppercase(), *label),
        ]
    });
    cased.chain(camel.into_iter().map(|(word, label)| (word.to_owned(), label)))
}

/// What may go on after the word and still name the value itself.
const TAILS: &[&[u8]] = &[
    b"_access_key",
    b"-access-key",
    b"_key",
    b"-key",
    b"_value",
    b"_string",
    b"accesskey",
    b"key",
    b"s",
    b"",
];

impl Label {
    pub(super) fn accepts(self, value: &str) -> bool {
        if is_placeholder(value) || value.len() > MOST_BYTES {
            return false;
        }
        match self {
            Label::Password => {
                let is_marked = value.bytes().any(|byte| byte.is_ascii_digit() || MARKS.contains(&byte));
                value.len() >= LEAST_BYTES && (is_marked || is_mixed(value))
            }
            Label::Key | Label::Token => {
                let has_letter = value.bytes().any(|byte| byte.is_ascii_alphabetic());
                let has_digit = value.bytes().any(|byte| byte.is_ascii_digit());
                // Some are chosen by a person after all.
                let is_chosen =
                    self == Label::Key && value.len() >= 8 && value.bytes().any(|byte| b"!@#$%^&*".contains(&byte));
                let is_long = value.len() >= 16 && is_random(value);
                has_letter && ((has_digit && (is_long || is_chosen)) || (value.len() >= 24 && is_mixed(value)))
            }
        }
    }
}

/// What every value has one of: a digit, a sign that passwords have, or a capital.
pub(super) fn is_telling(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_uppercase() || MARKS.contains(&byte)
}

/// Letters that change their case again and again, as no words do.
fn is_mixed(value: &str) -> bool {
    let turns = value
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
        .count();
    value.len() >= 12
        && turns >= 3
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte))
}

/// Where the name that holds the word ends, if it names a credential rather than a count, a page or an id.
pub(super) fn names_a_value(bytes: &[u8], start: usize, end: usize, label: Label) -> Option<usize> {
    let name_end = end + run_length(&bytes[end..], |byte| Body::Token.holds(byte));
    let tail = &bytes[end..name_end];
    let is_tail = TAILS.iter().any(|known| tail.eq_ignore_ascii_case(known));
    let name_start = start
        - bytes[..start]
            .iter()
            .rev()
            .take(32)
            .take_while(|byte| Body::Token.holds(**byte))
            .count();
    let head = bytes[name_start..start].to_ascii_lowercase();
    // `bypass`, `compass`: the word has to stand for itself.
    if bytes[start..end].eq_ignore_ascii_case(b"pass") && head.last().is_some_and(u8::is_ascii_alphabetic) {
        return None;
    }
    let is_other = label == Label::Token
        && [
            &b"page"[..],
            b"next",
            b"max",
            b"continuation",
            b"sync",
            b"cursor",
            b"num",
            b"count",
            b"id",
        ]
        .iter()
        .any(|word| head.windows(word.len()).any(|part| part == *word));
    (is_tail && !is_other).then_some(name_end)
}

/// The value of `name: value`, `name = "value"`, `"name":"value"`, `<name>value<`, `name is value`.
pub(super) fn value_after(text: &str, word: usize, word_end: usize, label: Label) -> Option<Hit> {
    let bytes = text.as_bytes();
    let name_end = if bytes[word_end - 1] == b'=' {
        word_end - 1
    } else {
        names_a_value(bytes, word, word_end, label)?
    };
    let (start, quote) = value_start(bytes, name_end)?;
    let is_inside = |byte: u8| match quote {
        Some(quote) => byte != quote && byte != b'\\' && byte != b'\n',
        None => !byte.is_ascii_whitespace() && !b"\"'\\`,;<>(){}[]|".contains(&byte),
    };
    let mut end = start + run_length(&bytes[start..], is_inside);
    let is_query =
        word > 0 && bytes[name_end] == b'=' && text[..word].rfind(['?', '&']).is_some_and(|mark| word - mark < 32);
    if is_query {
        end = start
            + bytes[start..end]
                .iter()
                .position(|byte| *byte == b'&')
                .unwrap_or(end - start);
    }
    // A call is code, not a value: `password = prompt()`.
    if quote.is_none() && matches!(bytes.get(end), Some(b'(' | b'[')) {
        return None;
    }
    let value = text.get(start..end)?;
    let value = if quote.is_none() {
        value.trim_end_matches(['.', '!', '?', ':'])
    } else {
        value
    };
    label
        .accepts(value)
        .then(|| Hit::by_context(start, start + value.len(), Kind::Secret))
}

/// Where the value begins after the name's closing quote and its separator, and the quote it stands in.
fn value_start(bytes: &[u8], name_end: usize) -> Option<(usize, Option<u8>)> {
    let skip = |at: usize, any: &[u8]| at + bytes[at..].iter().take(8).take_while(|byte| any.contains(byte)).count();
    let before_mark = skip(name_end, b"\\\"'` \t*");
    let after_mark = skip(before_mark, b":=>");
    let after_mark = if after_mark > before_mark {
        after_mark
    } else {
        [&b"is "[..], b"to ", b"was "]
            .iter()
            .find(|word| bytes[before_mark..].starts_with(word))
            .map(|word| before_mark + word.len())?
    };
    let at = skip(after_mark, b" \t\\*`");
    match bytes.get(at)? {
        quote @ (b'"' | b'\'') => Some((at + 1, Some(*quote))),
        _ => Some((at, None)),
    }
}

/// Text that stands for a value: `<token>`, `${KEY}`, `xxxx`, `your-key-here`, `…EXAMPLE`.
pub(super) fn is_placeholder(value: &str) -> bool {
    // Four letters come together in a token by chance; in one that was drawn at random they say nothing.
    const SHORT: [&str; 3] = ["your", "xxxx", "dummy"];
    const WORDS: [&str; 9] = [
        "placeholder",
        "changeme",
        "redacted",
        "example",
        "****",
        "....",
        "insert",
        "process.env",
        "environ",
    ];
    let lower = value.to_ascii_lowercase();
    let holds = |word: &&str| lower.contains(word);
    let stands_between = |open: char, close: char| {
        let inside = lower.find(open).map(|at| &lower[at..]);
        inside.is_some_and(|inside| inside.contains(close))
    };
    let is_short = lower.len() < 64;
    let is_short_one = || {
        is_variable(value)
            || lower.starts_with("**")
            || WORDS.iter().any(holds)
            || SHORT.iter().any(|word| stands_for_itself(value, word))
            || [('%', '%'), ('{', '}'), ('[', ']')]
                .iter()
                .any(|pair| is_between(&lower, *pair))
    };
    (is_short && is_short_one())
        || ["${", "{{", "$("].iter().any(holds)
        || stands_between('<', '>')
        || is_format(&lower) && turns(value) < 5
        || lower.contains("-here") && !lower.bytes().any(|byte| byte.is_ascii_digit())
}

/// Whether a word is in a text as people write it: in one case, and in no run of letters that a machine drew.
fn stands_for_itself(value: &str, word: &str) -> bool {
    let bytes = value.as_bytes();
    let is_written = |start: usize| {
        let found = &bytes[start..start + word.len()];
        let is_upper = found.iter().all(u8::is_ascii_uppercase);
        let is_title = found[1..].iter().all(u8::is_ascii_lowercase);
        let is_free = start == 0 || !bytes[start - 1].is_ascii_alphanumeric();
        (is_upper || is_title) && (is_free || turns(value) < 2)
    };
    let lower = value.to_ascii_lowercase();
    turns(value) < 5 && lower.match_indices(word).any(|(start, _)| is_written(start))
}

/// `$DB_PASSWORD`, `$token`: a variable's name.
fn is_variable(value: &str) -> bool {
    value.strip_prefix('$').is_some_and(|name| {
        let is_name = !name.starts_with(|first: char| first.is_ascii_digit())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_:.>-[]'\"".contains(&byte));
        is_name && turns(name) < 3
    })
}

/// `%PASSWORD%`, `{password}`, `[password]`.
fn is_between(value: &str, (open, close): (char, char)) -> bool {
    value.len() > 2 && value.starts_with(open) && value.ends_with(close)
}

/// `%s`, `%(name)s`: where printf puts a value.
fn is_format(lower: &str) -> bool {
    lower.match_indices("%s").any(|(at, _)| {
        let next = lower.as_bytes().get(at + 2);
        next.is_none_or(|next| !next.is_ascii_alphanumeric())
    }) || lower.contains("%(")
}

/// How often letters, capitals and digits take turns: often where a machine drew them.
fn turns(value: &str) -> usize {
    let turns = value.as_bytes().windows(2).filter(|pair| {
        let is_of_digit = pair[0].is_ascii_alphabetic() && pair[1].is_ascii_digit()
            || pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic();
        is_of_digit || (pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase())
    });
    turns.count()
}
