//! Values that were found elsewhere in a call or conversation, to be found where they stand bare: whole words only.
//!
//! They are few, and other ones for each call, so that an automaton would cost more to build than it saves. A bit for the
//! first bytes of each value is looked up wherever a word begins instead, and hardly ever set.

use super::dictionary::is_whole_word;
use super::eight::{Eight, place};
use super::heads::{Heads, four};
use super::hit::Hit;
use super::kind::Kind;
use super::person;

/// Values shorter than this are too common to be replaced everywhere.
const LEAST_BYTES: usize = 6;

/// Values, built for search.
pub(super) struct Learnt {
    /// By their first bytes; where those are equal, exact ones before those in any case.
    entries: Vec<Entry>,
    /// Which of a place's four bytes are among the first: as many as all values have, in lower case.
    mask: u32,
    fold: u32,
    heads: Heads,
    /// First bytes of values that begin with no ASCII letter or digit.
    signs: Vec<u8>,
    /// Bytes of the shortest value.
    shortest: usize,
}

struct Entry {
    first: u32,
    /// Whole names: they are the same person in any case.
    any_case: bool,
    value: String,
    kind: Kind,
}

impl Learnt {
    pub(super) fn new<'v>(values: impl IntoIterator<Item = (&'v str, Kind)>) -> Learnt {
        let mut entries = Vec::new();
        let mut add = |value: &str, kind: Kind, any_case: bool| {
            entries.push(Entry {
                first: 0,
                any_case,
                value: value.to_owned(),
                kind,
            });
        };
        for (value, kind) in values {
            if kind == Kind::Person {
                person::parts(value).into_iter().for_each(|part| add(part, kind, false));
                if value.contains(' ') {
                    add(value, kind, true);
                }
            } else if value.len() >= LEAST_BYTES {
                add(value, kind, false);
            }
        }
        let shortest = entries.iter().map(|entry| entry.value.len()).min().unwrap_or(0);
        let mask = u32::MAX.checked_shr(32 - 8 * shortest.min(4) as u32).unwrap_or(0);
        let mut learnt = Learnt {
            entries: Vec::new(),
            mask,
            fold: 0x2020_2020 & mask,
            heads: Heads::default(),
            signs: Vec::new(),
            shortest,
        };
        for entry in &mut entries {
            entry.first = learnt.first(entry.value.as_bytes());
            learnt.heads.add(entry.first);
            let sign = entry.value.bytes().next().filter(|byte| !byte.is_ascii_alphanumeric());
            learnt.signs.extend(sign.filter(|sign| !learnt.signs.contains(sign)));
        }
        // Of what is named twice the last counts.
        entries.reverse();
        entries.sort_by(|one, other| one.key().cmp(&other.key()));
        entries.dedup_by(|one, other| one.key() == other.key());
        learnt.entries = entries;
        learnt
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Finds every place of every value, also where they overlap.
    pub(super) fn find(&self, text: &str, hits: &mut Vec<Hit>) {
        if self.is_empty() || text.len() < self.shortest {
            return;
        }
        let bytes = text.as_bytes();
        // A mark for the byte before the eight: whether a word goes on, and whether a backslash is near.
        let (mut goes_on, mut after_escape) = (0, 0);
        for start in (0..bytes.len()).step_by(8) {
            let eight = Eight::at(bytes, start);
            let words = eight.letters() | eight.digits();
            let mut places = words & !(words << 8 | goes_on);
            goes_on = words >> 56;
            for sign in &self.signs {
                places |= eight.is(*sign);
            }
            let escapes = eight.is(b'\\');
            if escapes | after_escape != 0 {
                // A word begins after `\n` too.
                places |= words & (escapes << 16 | after_escape);
            }
            after_escape = escapes >> 48;
            while places != 0 {
                self.find_at(text, start + place(places), hits);
                places &= places - 1;
            }
        }
    }

    #[inline]
    fn find_at(&self, text: &str, at: usize, hits: &mut Vec<Hit>) {
        let first = self.first(text.as_bytes().get(at..).unwrap_or_default());
        if self.heads.may_hold(first) {
            self.compare(text, at, first, hits);
        }
    }

    #[inline]
    fn first(&self, bytes: &[u8]) -> u32 {
        four(bytes) & self.mask | self.fold
    }

    #[cold]
    fn compare(&self, text: &str, at: usize, first: u32, hits: &mut Vec<Hit>) {
        let from = self.entries.partition_point(|entry| entry.first < first);
        for entry in self.entries[from..].iter().take_while(|entry| entry.first == first) {
            let end = at + entry.value.len();
            let is_there = text.as_bytes().get(at..end).is_some_and(|there| entry.is(there));
            if is_there && is_whole_word(text, at, end) {
                hits.push(Hit::sure(at, end, entry.kind));
            }
        }
    }
}

impl Entry {
    fn key(&self) -> (u32, bool, &str) {
        (self.first, self.any_case, &self.value)
    }

    fn is(&self, there: &[u8]) -> bool {
        let value = self.value.as_bytes();
        value == there || (self.any_case && value.eq_ignore_ascii_case(there))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(values: &[(&str, Kind)], text: &str) -> Vec<String> {
        let mut hits = Vec::new();
        Learnt::new(values.iter().copied()).find(text, &mut hits);
        crate::mask::hit::settle(text, &mut hits);
        hits.iter().map(|hit| text[hit.start..hit.end].to_owned()).collect()
    }

    #[test]
    fn values_are_found_as_whole_words_wherever_they_stand() {
        let values = [
            ("Anna Kowalski", Kind::Person),
            ("hunter2!", Kind::Secret),
            ("\u{e9}t\u{e9} 42", Kind::Secret),
            ("short", Kind::Secret),
        ];
        let text = "ANNA KOWALSKI, Kowalski's hunter2!; \\nAnna, Annabel, xhunter2! short \u{e9}t\u{e9} 42";
        let expected = ["ANNA KOWALSKI", "Kowalski", "hunter2!", "Anna", "\u{e9}t\u{e9} 42"];
        assert_eq!(found(&values, text), expected);
        assert_eq!(found(&values, "Anna"), ["Anna"]);
        assert!(found(&values, "").is_empty() && found(&[], text).is_empty());
    }

    #[test]
    fn the_shortest_value_decides_how_much_is_looked_at() {
        assert_eq!(
            found(
                &[("Al B", Kind::Person), ("Maria Rossi", Kind::Person)],
                "AL B and maria rossi"
            ),
            ["AL B", "maria rossi"]
        );
        assert_eq!(found(&[("A B", Kind::Person)], "a b"), ["a b"]);
    }

    /// Every value at every place.
    fn found_slowly(learnt: &Learnt, text: &str) -> Vec<(usize, usize)> {
        let places = (0..text.len()).flat_map(|at| learnt.entries.iter().map(move |entry| (at, entry)));
        let hits = places.filter_map(|(at, entry)| {
            let end = at + entry.value.len();
            let is_there = text.as_bytes().get(at..end).is_some_and(|there| entry.is(there));
            (is_there && is_whole_word(text, at, end)).then_some((at, end))
        });
        hits.collect()
    }

    proptest! {
        #[test]
        fn every_value_is_found_wherever_it_is_a_whole_word(
            pieces in prop::collection::vec("[aB1 +é世\\\\nt.]{1,5}|AnBo Lee|ANBO LEE|Anbo", 1..12),
            values in prop::collection::vec("[aB1 +é世\\\\nt.]{6,9}|Anbo Lee|a B", 1..4),
            at in any::<prop::sample::Index>(),
        ) {
            let mut pieces = pieces;
            pieces.insert(at.index(pieces.len() + 1), values[0].clone());
            let text = pieces.concat();
            let kinds = [Kind::Secret, Kind::Person];
            let both = values.iter().flat_map(|value| kinds.map(|kind| (value.as_str(), kind)));
            let learnt = Learnt::new(both);
            let mut hits = Vec::new();
            learnt.find(&text, &mut hits);
            let found: Vec<_> = hits.iter().map(|hit| (hit.start, hit.end)).collect();
            prop_assert_eq!(found, found_slowly(&learnt, &text));
        }
    }
}
