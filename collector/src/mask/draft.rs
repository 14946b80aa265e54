//! A body between its two passes: what was found in it, and what is known of the call it belongs to.
//!
//! The first pass finds, the second replaces; between them the values that were found by their context, in any text of
//! the call, become a dictionary of that call and its conversation. So a name is replaced where it recurs bare.

use super::dictionary::Learnt;
use super::kind::Kind;
use super::scan::{self, Hit};
use super::scene::Scene;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// A body that was looked through.
pub struct Draft<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) is_json: bool,
    pub(super) parse_error: bool,
    pub(super) found: Found,
}

/// Values found by what stood around them. They are sensitive: they are never written anywhere, nor shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, Kind>);

impl Values {
    /// What the texts of one call tell.
    pub fn of_drafts<'d>(drafts: impl IntoIterator<Item = &'d Draft<'d>>) -> Values {
        Values::of(drafts.into_iter().map(|draft| &draft.found))
    }

    pub(super) fn of<'d>(found: impl IntoIterator<Item = &'d Found>) -> Values {
        let values = found.into_iter().flat_map(|found| found.learnt.iter().cloned());
        Values(values.collect())
    }

    /// Adds those of `other`, up to so many in all.
    pub fn add(&mut self, other: &Values, most: usize) {
        for (value, kind) in &other.0 {
            if self.0.len() >= most {
                return;
            }
            self.0.entry(value.clone()).or_insert(*kind);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.0.keys().map(|value| value.len() + 64).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.0.iter().map(|(value, kind)| (value.as_str(), *kind))
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Values({})", self.0.len())
    }
}

/// Values, built for search: see [`super::Mask::known`].
pub struct Known(pub(super) Learnt);

impl Known {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Hits of the first pass, text by text, in the order in which the second pass comes by.
#[derive(Default)]
pub(super) struct Found {
    hits: Vec<Hit>,
    /// Where the hits of each text end.
    ends: Vec<usize>,
    learnt: Vec<(String, Kind)>,
    /// Texts that the second pass has come by.
    passed: usize,
}

impl Found {
    /// Keeps the hits of the next text.
    pub(super) fn record(&mut self, scene: &Scene<'_>, hits: Vec<Hit>) {
        for hit in &hits {
            let value = &scene.text[hit.start..hit.end];
            if hit.by_context {
                self.learnt.push((value.to_owned(), hit.kind));
            }
            self.learnt.extend(bare(value, hit.kind).map(|bare| (bare, hit.kind)));
        }
        self.hits.extend(hits);
        self.ends.push(self.hits.len());
    }

    /// The hits of the next text again, with those of known values.
    pub(super) fn replay(&mut self, scene: &Scene<'_>, known: &Known) -> Vec<Hit> {
        let start = self.passed.checked_sub(1).map_or(0, |last| self.ends[last]);
        let end = self.ends.get(self.passed).copied().unwrap_or(self.hits.len());
        self.passed += 1;
        let mut hits = self.hits[start..end].to_vec();
        let count = hits.len();
        known.0.find(scene, &mut hits);
        if hits.len() > count {
            scan::settle(scene.text, &mut hits);
        }
        hits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }
}

/// A number that was known by its punctuation, as tools take it: digits alone.
fn bare(value: &str, kind: Kind) -> Option<String> {
    if !matches!(kind, Kind::Phone | Kind::UsSsn) {
        return None;
    }
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    (digits.len() >= 9 && digits.len() < value.len()).then_some(digits)
}
