//! The way back: values in the place of their surrogates, in text and in JSON that stays JSON.
//!
//! A surrogate inside a longer word is none.

use super::edit::{self, Edit};
use super::json::{self, Leaves};
use super::kind::{Counts, Kind};
use super::{Made, MaskError};
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// What a pen has replaced. It is sensitive: it is written nowhere but sealed, nor shown.
#[derive(Clone, Default)]
pub struct Replaced(pub(super) Made);

impl Replaced {
    /// Surrogates and values, sorted. What is a credential anywhere in the call is not among them, whatever it was taken for
    /// elsewhere, nor what holds one.
    pub(crate) fn pairs(&self) -> Vec<(&str, &str)> {
        let secrets = self.0[Kind::Secret as usize].keys();
        let Ok(secrets) = AhoCorasick::new(secrets) else {
            return Vec::new();
        };
        let others = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Secret);
        let others = others.flat_map(|kind| &self.0[kind as usize]);
        let kept = others.filter(|(value, _)| !secrets.is_match(value.as_str()));
        let mut pairs: Vec<(&str, &str)> = kept.map(|(value, surrogate)| (&**surrogate, &**value)).collect();
        pairs.sort_unstable();
        pairs
    }
}

impl fmt::Debug for Replaced {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many: usize = self.0.iter().map(HashMap::len).sum();
        write!(formatter, "Replaced({many})")
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
        let mut found = Vec::new();
        let leaves = Leaves::of_json(text, &mut |scene| self.look(scene.text, &mut found)).unwrap_or_else(|_| {
            found.clear();
            Leaves::of_text(text, self.look(text, &mut found))
        });
        let mut edits = Vec::new();
        for leaf in leaves.iter() {
            for (range, value) in &found[leaf.hits.clone()] {
                // A whole number's place is one's again, or it stays.
                if leaf.is_number() && json::whole_number(value.to_string()) != *value {
                    continue;
                }
                edits.push(Edit {
                    start: leaves.place(leaf, range.start),
                    end: leaves.place(leaf, range.end),
                    kind: Kind::Pattern,
                    replacement: leaf.written(value.to_string()),
                });
            }
        }
        let restored = edit::apply(text, &edits, &mut Counts::default()).into_owned();
        (restored, u32::try_from(edits.len()).unwrap_or(u32::MAX))
    }

    /// Adds the surrogates that stand in a text, and tells their numbers.
    fn look<'r>(&'r self, text: &str, found: &mut Vec<(Range<usize>, &'r str)>) -> Range<usize> {
        let first = found.len();
        let hits = self
            .search
            .find_iter(text)
            .filter(|hit| stands_alone(text, hit.range()));
        found.extend(hits.map(|hit| (hit.range(), &*self.values[hit.pattern().as_usize()])));
        first..found.len()
    }
}

fn stands_alone(text: &str, range: Range<usize>) -> bool {
    let is_word = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    let (before, inside, after) = (&text[..range.start], &text[range.clone()], &text[range.end..]);
    let runs_on_left = is_word(before.chars().next_back()) && is_word(inside.chars().next());
    let runs_on_right = is_word(after.chars().next()) && is_word(inside.chars().next_back());
    !runs_on_left && !runs_on_right
}
