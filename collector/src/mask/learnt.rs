//! Values that were found elsewhere in a call or conversation, to be found where they stand bare: whole words only.
//!
//! They are few, and other ones for each call, so that an automaton would cost more to build than it saves. A bit for the
//! first bytes of each value is looked up at each place of a text instead, and hardly ever set.

use super::dictionary::is_whole_word;
use super::kind::Kind;
use super::person;
use super::scan::Hit;

/// Values shorter than this are too common to be replaced everywhere.
const LEAST_BYTES: usize = 6;
/// Bits, and those of a hash that choose one.
const BITS: usize = 1 << HASH_BITS;
const HASH_BITS: u32 = 16;

/// Values, built for search.
pub(super) struct Learnt {
    /// By their first bytes; where those are equal, exact ones before those in any case.
    entries: Vec<Entry>,
    /// Which of a place's four bytes are among the first: as many as all values have, in lower case.
    mask: u32,
    fold: u32,
    bits: Box<[u64; BITS / 64]>,
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
            bits: Box::new([0; BITS / 64]),
        };
        for entry in &mut entries {
            entry.first = learnt.first(padded(entry.value.as_bytes()));
            let (word, bit) = place(entry.first);
            learnt.bits[word] |= bit;
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
        if self.is_empty() {
            return;
        }
        let bytes = text.as_bytes();
        for (at, four) in bytes.array_windows().enumerate() {
            self.find_at(text, at, u32::from_le_bytes(*four), hits);
        }
        for at in bytes.len().saturating_sub(3)..bytes.len() {
            self.find_at(text, at, padded(&bytes[at..]), hits);
        }
    }

    #[inline]
    fn find_at(&self, text: &str, at: usize, four: u32, hits: &mut Vec<Hit>) {
        let first = self.first(four);
        let (word, bit) = place(first);
        if self.bits[word] & bit != 0 {
            self.compare(text, at, first, hits);
        }
    }

    #[inline]
    fn first(&self, four: u32) -> u32 {
        four & self.mask | self.fold
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

/// The first four bytes, zeros past the end.
fn padded(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .take(4)
        .rev()
        .fold(0, |four, byte| four << 8 | u32::from(*byte))
}

#[inline]
fn place(first: u32) -> (usize, u64) {
    let hash = first.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[(&str, Kind)], text: &str) -> Vec<String> {
        let mut hits = Vec::new();
        Learnt::new(values.iter().copied()).find(text, &mut hits);
        crate::mask::scan::settle(text, &mut hits);
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
}
