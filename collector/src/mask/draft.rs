//! A body between its two passes: what was found in it, and what is known of the call it belongs to.
//!
//! The first pass finds, the second replaces; between them the values that were found by their context, in any body of
//! the call, become a dictionary of that call. So a name is replaced where it recurs bare.

use super::dictionary::Learnt;
use super::kind::Kind;
use super::scan::{self, Hit};
use super::scene::Scene;
use std::borrow::Cow;

/// A body that was looked through.
pub struct Draft<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) is_json: bool,
    pub(super) parse_error: bool,
    pub(super) found: Found,
}

/// Values found by their context in the bodies of one call.
pub struct Known(Learnt);

impl Known {
    /// What the bodies of one call tell of each other.
    pub fn of_drafts<'d>(drafts: impl IntoIterator<Item = &'d Draft<'d>>) -> Known {
        Known::of(drafts.into_iter().map(|draft| &draft.found))
    }

    pub(super) fn of<'d>(found: impl IntoIterator<Item = &'d Found>) -> Known {
        let values = found.into_iter().flat_map(|found| found.learnt.iter().cloned());
        Known(Learnt::new(values.collect()))
    }

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
        for hit in hits.iter().filter(|hit| hit.by_context) {
            self.learnt.push((scene.text[hit.start..hit.end].to_owned(), hit.kind));
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
            scan::settle(&mut hits);
        }
        hits
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }
}
