//! The way back: values in the place of their surrogates, in text and in JSON that stays JSON.
//!
//! A surrogate inside a longer word is none.

use super::edit::{self, Edit};
use super::kind::{Counts, Kind};
use super::scene::Scene;
use super::{MaskError, json};
use aho_corasick::{AhoCorasick, MatchKind};
use std::fmt;

/// What a pen has replaced, without credentials. It is sensitive: it is written nowhere but sealed, nor shown.
#[derive(Clone, Default)]
pub struct Replaced(pub(super) Vec<(String, String)>);

impl Replaced {
    /// Surrogates and values.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Replaced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Replaced({})", self.0.len())
    }
}

/// Puts values back.
pub struct Restorer {
    search: AhoCorasick,
    values: Vec<String>,
}

impl Restorer {
    /// Built of surrogates and their values.
    ///
    /// # Errors
    /// Where there are too many to search for.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Restorer, MaskError> {
        let (surrogates, values): (Vec<String>, Vec<String>) =
            pairs.into_iter().filter(|(surrogate, _)| !surrogate.is_empty()).unzip();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(surrogates)
            .map_err(|source| MaskError::Dictionary {
                names: "the vault".into(),
                source,
            })?;
        Ok(Restorer { search, values })
    }

    /// The text with values put back, and how many. Where it is JSON, it stays JSON.
    pub fn restore(&self, text: &str) -> (String, u32) {
        let mut counts = Counts::default();
        let edits = json::edits(text, &mut |scene| self.edits(&scene));
        let edits = edits.unwrap_or_else(|_| self.edits(&Scene { text, label: "" }));
        let restored = edit::apply(text, &edits, &mut counts).into_owned();
        (restored, u32::try_from(edits.len()).unwrap_or(u32::MAX))
    }

    fn edits(&self, scene: &Scene<'_>) -> Vec<Edit> {
        let is_word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        let found = self.search.find_iter(scene.text).filter(|found| {
            let (before, rest) = scene.text.split_at(found.start());
            let (surrogate, after) = rest.split_at(found.end() - found.start());
            let runs_on_left = is_word(before.chars().next_back()) && is_word(surrogate.chars().next());
            let runs_on_right = is_word(after.chars().next()) && is_word(surrogate.chars().next_back());
            !runs_on_left && !runs_on_right
        });
        found
            .map(|found| Edit {
                start: found.start(),
                end: found.end(),
                kind: Kind::Pattern,
                replacement: self.values[found.pattern().as_usize()].clone(),
            })
            .collect()
    }
}
