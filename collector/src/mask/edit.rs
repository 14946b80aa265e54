//! Replacements in a text, and putting them in.
//!
//! Knows nothing of what is replaced but its kind.

use super::kind::{Counts, Kind};
use std::borrow::Cow;

/// One replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) kind: Kind,
    pub(super) replacement: String,
}

/// Puts sorted edits into the text and counts them.
pub(super) fn apply<'a>(text: &'a str, edits: &[Edit], counts: &mut Counts) -> Cow<'a, str> {
    if edits.is_empty() {
        return Cow::Borrowed(text);
    }
    let added: usize = edits.iter().map(|edit| edit.replacement.len()).sum();
    let mut masked = String::with_capacity(text.len() + added);
    let mut done = 0;
    for edit in edits {
        masked.push_str(&text[done..edit.start]);
        masked.push_str(&edit.replacement);
        done = edit.end;
        counts.add(edit.kind);
    }
    masked.push_str(&text[done..]);
    Cow::Owned(masked)
}
