//! What is known of single words: given names, family names, plain words, places, and the cues that rules start from.
//!
//! One hash table, built once for the process from the lists beside this file; a word is folded (lower case, no
//! accents) before it is looked up. Says nothing of what a word means where it stands: that is for the rules.

use super::fold::fold;
use std::sync::LazyLock;

/// What a word may be; several at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u32);

/// Names the bits, each with the section of `cues.txt` that sets it; other lists have their own files.
macro_rules! flags {
    ($($(#[doc = $doc:literal])* $name:ident = $bit:literal, $section:literal;)*) => {
        impl Flags {
            $($(#[doc = $doc])* pub(super) const $name: Flags = Flags(1 << $bit);)*
        }

        const SECTIONS: &[(&str, Flags)] = &[$(($section, Flags::$name)),*];
    };
}

flags! {
    /// A given name.
    GIVEN = 0, "";
    /// A family name.
    FAMILY = 1, "";
    /// One of the most frequent family names.
    COMMON = 2, "";
    /// A plain word of a language.
    WORD = 3, "";
    /// A place, month, firm or product.
    PLACE = 4, "";
    TITLE = 5, "title";
    PARTICLE = 6, "particle";
    GREETING = 7, "greeting";
    SIGN_OFF = 8, "sign_off";
    ROLE = 9, "role";
    LEAD = 10, "lead";
    HINT = 11, "hint";
    GOES_WITH_PERSONS = 12, "goes_with_persons";
    DETERMINER = 13, "determiner";
    HEAD = 14, "head";
    TAIL = 15, "tail";
    LABEL = 16, "label";
    LABEL_OF_NAMES = 17, "label_of_names";
    LABEL_OF_THINGS = 18, "label_of_things";
    BIRTH = 19, "birth";
    RECORD = 20, "record";
    RECORD_OF = 21, "record_of";
    FILE = 22, "file";
    NUMBER = 23, "number";
    STREET_AFTER = 24, "street_after";
    STREET_AFTER_TOO = 25, "street_after_too";
    STREET_BEFORE = 26, "street_before";
    STREET_BEFORE_TOO = 27, "street_before_too";
    STREET_BEFORE_NUMBER = 28, "street_before_number";
    UNIT = 29, "unit";
    ADDRESS = 30, "address";
    LINK = 31, "link";
}

impl Flags {
    pub(super) const NONE: Flags = Flags(0);

    pub(super) const fn or(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether any of `other` holds.
    pub(super) const fn any(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

/// The lists, and what each says of its words.
const LISTS: [(&str, Flags); 5] = [
    (include_str!("lexicon/given.txt"), Flags::GIVEN),
    (include_str!("lexicon/surnames.txt"), Flags::FAMILY),
    (
        include_str!("lexicon/common_surnames.txt"),
        Flags::FAMILY.or(Flags::COMMON),
    ),
    (include_str!("lexicon/words.txt"), Flags::WORD),
    (include_str!("lexicon/not_names.txt"), Flags::PLACE),
];

/// Words by what they are to a rule, in sections.
const CUES: &str = include_str!("lexicon/cues.txt");

/// Slots of the table: a power of two, about half as many again as there are words.
const SLOTS: usize = 1 << 16;

/// The table.
pub(super) struct Lexicon {
    /// The upper half of a word's hash, never 0, and its flags.
    slots: Box<[(u32, Flags)]>,
}

static SHARED: LazyLock<Lexicon> = LazyLock::new(Lexicon::new);

impl Lexicon {
    /// The table of this process.
    pub(super) fn shared() -> &'static Lexicon {
        &SHARED
    }

    fn new() -> Lexicon {
        let mut lexicon = Lexicon {
            slots: vec![(0, Flags::NONE); SLOTS].into_boxed_slice(),
        };
        for (list, flags) in LISTS {
            lexicon.add_all(list, flags);
        }
        for section in CUES.split("\n[").skip(1) {
            let (name, words) = section.split_once("]\n").unwrap_or_default();
            let flags = SECTIONS.iter().find(|(section, _)| *section == name);
            lexicon.add_all(words, flags.map_or(Flags::NONE, |(_, flags)| *flags));
        }
        lexicon
    }

    fn add_all(&mut self, list: &str, flags: Flags) {
        let lines = list.lines().filter(|line| !line.starts_with('#'));
        for word in lines.flat_map(str::split_ascii_whitespace) {
            let hash = WordHash::of(word);
            let slot = self.slot(hash);
            self.slots[slot] = (mark(hash), self.slots[slot].1.or(flags));
        }
    }

    /// The slot of a hash, or the empty one where it would stand.
    #[inline]
    fn slot(&self, hash: u64) -> usize {
        let mark = mark(hash);
        let mut slot = hash as usize % SLOTS;
        while self.slots[slot].0 != 0 && self.slots[slot].0 != mark {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    /// What is known of the word with this hash.
    #[inline]
    pub(super) fn flags(&self, hash: u64) -> Flags {
        self.slots[self.slot(hash)].1
    }

    /// What is known of a word in any spelling.
    pub(super) fn flags_of(&self, word: &str) -> Flags {
        self.flags(WordHash::of(word))
    }
}

/// What tells words of one slot apart.
#[inline]
fn mark(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

/// Hashes a folded word, eight bytes at a time.
#[derive(Clone, Copy, Default)]
pub(super) struct WordHash {
    state: u64,
    /// Bytes that don't fill a chunk yet, the first of them lowest.
    chunk: u64,
    count: u32,
}

impl WordHash {
    /// Hashes a word in any spelling.
    fn of(word: &str) -> u64 {
        let mut hash = WordHash::default();
        for letter in word.chars() {
            fold(letter, |byte| hash.push(byte));
        }
        hash.finish()
    }

    /// Adds up to eight ASCII letters and digits in any case, the first of them lowest, zeros after them. Fewer than eight
    /// are the last.
    #[inline]
    pub(super) fn push_ascii(&mut self, letters: u64, count: usize) {
        // Folds capitals; digits have the bit already.
        const FOLD: u64 = 0x2020_2020_2020_2020;
        let fold = FOLD.checked_shr(64 - 8 * count as u32).unwrap_or(0);
        self.push_exact(letters | fold, count);
    }

    /// The same, in the case in which they are written.
    #[inline]
    pub(super) fn push_exact(&mut self, letters: u64, count: usize) {
        if count > 0 {
            self.push_chunk(letters);
        }
    }

    /// A hash of what comes after something with this hash.
    pub(super) fn after(hash: u64) -> WordHash {
        WordHash {
            state: hash,
            ..WordHash::default()
        }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.chunk |= u64::from(byte) << (self.count * 8);
        self.count += 1;
        if self.count == 8 {
            self.push_chunk(self.chunk);
            self.chunk = 0;
            self.count = 0;
        }
    }

    #[inline]
    fn push_chunk(&mut self, chunk: u64) {
        self.state = (self.state.rotate_left(25) ^ chunk).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    pub(super) fn finish(mut self) -> u64 {
        if self.count > 0 {
            self.push_chunk(self.chunk);
        }
        let mixed = (self.state ^ (self.state >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(word: &str) -> Flags {
        Lexicon::shared().flags_of(word)
    }

    #[test]
    fn words_are_known_by_all_that_they_are() {
        assert!(flags("Heather").any(Flags::GIVEN) && !flags("Heather").any(Flags::PLACE));
        assert!(flags("jordan").any(Flags::GIVEN) && flags("jordan").any(Flags::PLACE));
        assert!(flags("young").any(Flags::COMMON) && flags("young").any(Flags::WORD));
        assert!(flags("mrs").any(Flags::TITLE) && flags("Straße").any(Flags::STREET_BEFORE_NUMBER));
        assert_eq!(flags("qwrtzp"), Flags::NONE);
    }

    #[test]
    fn every_section_of_cues_has_a_meaning_and_every_meaning_a_section() {
        let named: Vec<&str> = CUES
            .split("\n[")
            .skip(1)
            .filter_map(|section| section.split_once("]\n"))
            .map(|(name, _)| name)
            .collect();
        let meant: Vec<&str> = SECTIONS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !name.is_empty())
            .collect();
        assert!(named.iter().all(|name| meant.contains(name)) && meant.iter().all(|name| named.contains(name)));
    }

    #[test]
    fn both_ways_to_hash_agree() {
        for word in ["", "a", "Anna", "abcdefgh", "ABCDEFGHi", "a1B2c3d4e5f6g7h8i9"] {
            let mut hash = WordHash::default();
            for chunk in word.as_bytes().chunks(8) {
                let mut letters = [0; 8];
                letters[..chunk.len()].copy_from_slice(chunk);
                hash.push_ascii(u64::from_le_bytes(letters), chunk.len());
            }
            assert_eq!(hash.finish(), WordHash::of(word), "{word}");
        }
    }

    #[test]
    fn the_lists_are_folded_and_in_order() {
        for (list, _) in LISTS {
            let words: Vec<&str> = list
                .lines()
                .filter(|line| !line.starts_with('#'))
                .flat_map(str::split_ascii_whitespace)
                .collect();
            assert!(words.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(
                words
                    .iter()
                    .all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
            );
        }
    }

    #[test]
    fn no_unknown_word_is_taken_for_a_known_one() {
        let known = (0..100_000)
            .filter(|number| flags(&format!("zq{number}")) != Flags::NONE)
            .count();
        assert_eq!(known, 0);
    }
}
