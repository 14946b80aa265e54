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

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(pairs: &[(&str, &str)], text: &str) -> (String, u32) {
        let pairs = pairs
            .iter()
            .map(|(surrogate, value)| ((*surrogate).to_owned(), (*value).to_owned()));
        Restorer::new(pairs).unwrap().restore(text)
    }

    #[test]
    fn values_come_back_as_whole_words_and_json_stays_json() {
        let pairs = [
            ("Wexu", "Ann"),
            ("4000001234567899", "4111111111111111"),
            ("15550001", "+1 555"),
            ("Qaze", "a \"b\"\n"),
        ];
        let json = r#"{"card":4000001234567899,"tel":15550001,"a":"Wexu's Wexuary xWexu","b":"{\"c\":\"Qaze\"}"}"#;
        let (text, many) = restored(&pairs, json);
        let expected =
            r#"{"card":4111111111111111,"tel":15550001,"a":"Ann's Wexuary xWexu","b":"{\"c\":\"a \\\"b\\\"\\n\"}"}"#;
        assert_eq!((text.as_str(), many), (expected, 3));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let inner: serde_json::Value = serde_json::from_str(value["b"].as_str().unwrap()).unwrap();
        assert_eq!(inner["c"], "a \"b\"\n");
        assert_eq!(restored(&pairs, "{Wexu, 15550001"), ("{Ann, +1 555".to_owned(), 2));
        assert_eq!(restored(&[], "Wexu"), ("Wexu".to_owned(), 0));
    }

    #[test]
    fn a_credential_is_not_given_out_as_something_else_nor_inside_it() {
        let mut made = Made::default();
        let mut add = |kind: Kind, value: &str| {
            made[kind as usize].insert(value.to_owned(), format!("{}-{value}", kind.as_str()));
        };
        add(Kind::Secret, "hunter2!");
        add(Kind::Pattern, "hunter2!");
        add(Kind::Email, "ann:hunter2!@acme.test");
        // Of two kinds in two places it has two surrogates.
        add(Kind::Person, "Ann Larkin");
        add(Kind::Dictionary, "Ann Larkin");
        let replaced = Replaced(made);
        let expected = [
            ("DICTIONARY-Ann Larkin", "Ann Larkin"),
            ("PERSON-Ann Larkin", "Ann Larkin"),
        ];
        assert_eq!(replaced.pairs(), expected);
        assert_eq!(format!("{replaced:?}"), "Replaced(5)");
        assert!(Replaced::default().pairs().is_empty());
    }
}
