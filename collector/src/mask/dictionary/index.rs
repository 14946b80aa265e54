//! Entries by their first words: a million of them are indexed in a second or two, and a word of a text that begins none
//! costs a look into one bit.
//!
//! An automaton over as many entries takes minutes and caches nothing; here only words that begin an entry are compared.

use super::{Kind, is_whole_word};
use crate::mask::eight::{self, Eight};
use crate::mask::hit::Hit;
use crate::mask::lexicon::WordHash;
use crate::mask::scene::{has_no_spaces, is_escape_letter};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Characters between the first and the second word of an entry, at most; with more, both words are in one group.
const BETWEEN: usize = 8;

/// Entries that begin with a word of a script that is written with spaces.
pub(super) struct Index {
    /// All entries, folded, one after the other, those of one group together.
    text: String,
    /// Where each begins and ends, and its kind.
    entries: Vec<(u32, u32, Kind)>,
    /// By the hash of the first word: the group of entries of one word, and whether there are longer ones.
    first: HashMap<u64, First, BuildHasherDefault<AsItIs>>,
    /// By the hash up to the end of the second word: the group of entries that begin so.
    second: HashMap<u64, (u32, u32), BuildHasherDefault<AsItIs>>,
    /// A bit for each hash in `first`, and for others by chance.
    known: Vec<u64>,
    ignore_case: bool,
}

#[derive(Clone, Copy, Default)]
struct First {
    alone: (u32, u32),
    has_longer: bool,
}

/// Which group an entry is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Alone(u64),
    Longer { first: u64, second: u64 },
}

/// Keys are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut hash = WordHash::after(self.0);
        bytes.iter().for_each(|byte| hash.push(*byte));
        self.0 = hash.finish();
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() && !has_no_spaces(letter)
}

impl Index {
    /// Whether an entry can be in an index.
    pub(super) fn takes(entry: &str) -> bool {
        entry.chars().next().is_some_and(is_word)
    }

    /// An index of entries that it takes; `None` where there are none, or more text than can be numbered.
    pub(super) fn new(entries: Vec<(String, Kind)>, ignore_case: bool) -> Option<Index> {
        let bytes: usize = entries.iter().map(|(entry, _)| entry.len() * 3).sum();
        if entries.is_empty() || u32::try_from(bytes).is_err() {
            return None;
        }
        let mut index = Index {
            text: String::new(),
            entries: Vec::with_capacity(entries.len()),
            first: HashMap::default(),
            second: HashMap::default(),
            known: Vec::new(),
            ignore_case,
        };
        let mut grouped: Vec<(Group, String, Kind)> = entries
            .into_iter()
            .map(|(entry, kind)| {
                let folded: String = entry.chars().flat_map(|letter| folded(letter, ignore_case)).collect();
                (group_of(&folded), folded, kind)
            })
            .collect();
        grouped.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        for (group, entry, kind) in grouped {
            let at = number(index.entries.len());
            let begin = number(index.text.len());
            index.text.push_str(&entry);
            index.entries.push((begin, number(index.text.len()), kind));
            match group {
                Group::Alone(first) => {
                    let alone = &mut index.first.entry(first).or_default().alone;
                    *alone = (if alone.1 == 0 { at } else { alone.0 }, at + 1);
                }
                Group::Longer { first, second } => {
                    index.first.entry(first).or_default().has_longer = true;
                    index.second.entry(second).or_insert((at, at)).1 = at + 1;
                }
            }
        }
        let words = (index.first.len() * 16).next_power_of_two().max(64) / 64;
        index.known = vec![0; words];
        for hash in index.first.keys() {
            let (word, bit) = place(*hash, words);
            index.known[word] |= bit;
        }
        Some(index)
    }

    /// Looks at each word of a text.
    pub(super) fn find(&self, text: &str, hits: &mut Vec<Hit>) {
        let mut at = 0;
        while let Some(letter) = text[at..].chars().next() {
            if !is_word(letter) {
                at += letter.len_utf8();
                continue;
            }
            let end = self.find_at(text, at, hits);
            // The letter of an escape may belong to the word, or not.
            if end > at + 1 && is_escape_letter(text.as_bytes(), at) {
                self.find_at(text, at + 1, hits);
            }
            at = end;
        }
    }

    /// Compares the entries that begin with the word at `start`; tells where that ends.
    fn find_at(&self, text: &str, start: usize, hits: &mut Vec<Hit>) -> usize {
        let rest = &text[start..];
        let (first, length) = word_hash(rest, self.ignore_case);
        let (word, bit) = place(first, self.known.len());
        if self.known[word] & bit != 0
            && let Some(group) = self.first.get(&first)
        {
            self.compare(text, start, group.alone, hits);
            if group.has_longer
                && let Some(group) = self.second.get(&second_hash(first, &rest[length..], self.ignore_case))
            {
                self.compare(text, start, *group, hits);
            }
        }
        start + length
    }

    fn compare(&self, text: &str, start: usize, (from, to): (u32, u32), hits: &mut Vec<Hit>) {
        for (begin, end, kind) in &self.entries[from as usize..to as usize] {
            let entry = &self.text[*begin as usize..*end as usize];
            if let Some(length) = self.length_in(entry, &text[start..])
                && is_whole_word(text, start, start + length)
            {
                hits.push(Hit::sure(start, start + length, *kind));
            }
        }
    }

    /// How many bytes of a text an entry takes up, where the text begins with it.
    fn length_in(&self, entry: &str, text: &str) -> Option<usize> {
        let mut wanted = entry.chars();
        for (at, letter) in text.char_indices() {
            for one in folded(letter, self.ignore_case) {
                match wanted.next() {
                    Some(letter) if letter == one => {}
                    Some(_) => return None,
                    None => return Some(at),
                }
            }
        }
        wanted.next().is_none().then_some(text.len())
    }
}

/// A letter as it is compared.
fn folded(letter: char, ignore_case: bool) -> impl Iterator<Item = char> {
    let lower = (ignore_case && !letter.is_ascii()).then(|| letter.to_lowercase());
    let plain = match (ignore_case, letter.is_ascii()) {
        (true, true) => Some(letter.to_ascii_lowercase()),
        (false, _) => Some(letter),
        (true, false) => None,
    };
    plain.into_iter().chain(lower.into_iter().flatten())
}

/// The hash of the word that a text begins with, and where it ends.
fn word_hash(text: &str, ignore_case: bool) -> (u64, usize) {
    let bytes = text.as_bytes();
    let (mut hash, mut end) = (WordHash::default(), 0);
    loop {
        let eight = Eight::at(bytes, end);
        let length = eight::place(eight::others(eight.letters() | eight.digits()));
        if length < 8 && bytes.get(end + length).is_some_and(|byte| !byte.is_ascii()) {
            hash = WordHash::default();
            end = push_word(&mut hash, text, ignore_case);
            return (hash.finish(), end);
        }
        let letters = eight.first(length).0;
        if ignore_case {
            hash.push_ascii(letters, length);
        } else {
            hash.push_exact(letters, length);
        }
        end += length;
        if length < 8 {
            return (hash.finish(), end);
        }
    }
}

/// The hash up to the end of the second word, from that of the first and what comes after it.
fn second_hash(first: u64, after: &str, ignore_case: bool) -> u64 {
    let mut hash = WordHash::after(first);
    let second = after
        .char_indices()
        .take(BETWEEN + 1)
        .find(|(_, letter)| is_word(*letter));
    match second {
        Some((at, _)) => {
            push(&mut hash, after[..at].chars(), ignore_case);
            push_word(&mut hash, &after[at..], ignore_case);
        }
        None => push(&mut hash, after.chars().take(BETWEEN), ignore_case),
    }
    hash.finish()
}

/// Adds the word that a text begins with; tells where it ends.
fn push_word(hash: &mut WordHash, text: &str, ignore_case: bool) -> usize {
    let end = text.find(|letter| !is_word(letter)).unwrap_or(text.len());
    push(hash, text[..end].chars(), ignore_case);
    end
}

fn push(hash: &mut WordHash, letters: impl Iterator<Item = char>, ignore_case: bool) {
    let mut bytes = [0; 4];
    for letter in letters.flat_map(|letter| folded(letter, ignore_case)) {
        letter.encode_utf8(&mut bytes).bytes().for_each(|byte| hash.push(byte));
    }
}

/// The group of an entry that is folded already.
fn group_of(entry: &str) -> Group {
    let (first, end) = word_hash(entry, false);
    let after = &entry[end..];
    if after.chars().any(is_word) {
        Group::Longer {
            first,
            second: second_hash(first, after, false),
        }
    } else {
        Group::Alone(first)
    }
}

fn place(hash: u64, words: usize) -> (usize, u64) {
    // The high bits of a product are its best.
    let at = (hash >> 20) as usize % (words * 64);
    (at / 64, 1 << (at % 64))
}
