//! A body between its two passes: what was found in it, and what is known of the call it belongs to.
//!
//! The first pass finds, the second replaces what stands in the texts that the first came by; between them the values that were found by their context, in any text of
//! the call, become a dictionary of that call and its conversation. So a name is replaced where it recurs bare.

use super::hit::{self, Hit};
use super::json::Leaves;
use super::kind::Kind;
use super::learnt::Learnt;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// A body that was looked through.
pub struct Draft<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) leaves: Leaves,
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

/// What the first pass found.
#[derive(Default)]
pub(super) struct Found {
    hits: Vec<Hit>,
    learnt: Vec<(String, Kind)>,
}

impl Found {
    /// Keeps the hits of a text, and tells their numbers.
    pub(super) fn record(&mut self, text: &str, hits: Vec<Hit>) -> Range<usize> {
        for hit in &hits {
            let value = &text[hit.start..hit.end];
            if hit.by_context {
                self.learnt.push((value.to_owned(), hit.kind));
            }
            self.learnt.extend(bare(value, hit.kind).map(|bare| (bare, hit.kind)));
        }
        let first = self.hits.len();
        self.hits.extend(hits);
        first..self.hits.len()
    }

    /// The hits of a text again, with those of known values.
    pub(super) fn with_known(&self, range: Range<usize>, text: &str, known: &Known, hits: &mut Vec<Hit>) {
        hits.clear();
        hits.extend_from_slice(&self.hits[range]);
        let count = hits.len();
        known.0.find(text, hits);
        if hits.len() > count {
            hit::settle(text, hits);
        }
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
