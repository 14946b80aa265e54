//! Which letters a word has: most labels can't hold a word by that alone.

/// A bit for each letter of ASCII, whatever its case.
#[derive(Clone, Copy)]
pub(super) struct Letters(u32);

impl Letters {
    /// The letters of a text; all, where some are beyond ASCII.
    pub(super) const fn of(text: &str) -> Letters {
        let bytes = text.as_bytes();
        let (mut letters, mut at) = (0, 0);
        while at < bytes.len() {
            letters |= match bytes[at] {
                letter @ (b'a'..=b'z' | b'A'..=b'Z') => 1 << (letter & 31),
                0x80.. => u32::MAX,
                _ => 0,
            };
            at += 1;
        }
        Letters(letters)
    }

    /// Those of each word of some lists.
    pub(super) const fn of_all<const N: usize, const L: usize>(lists: [&[&str]; L]) -> [Letters; N] {
        let mut all = [Letters(0); N];
        let (mut list, mut count) = (0, 0);
        while list < L {
            let mut word = 0;
            while word < lists[list].len() {
                all[count] = Letters::of(lists[list][word]);
                count += 1;
                word += 1;
            }
            list += 1;
        }
        assert!(count == N, "so many words");
        all
    }

    /// Whether a text with these letters may hold one of the words.
    pub(super) fn hold_any(self, words: &[Letters]) -> bool {
        words.iter().any(|word| self.0 & word.0 == word.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [Letters; 3] = Letters::of_all([&["dob"], &["mrn", "рождения"]]);

    #[test]
    fn a_label_without_a_words_letters_does_not_hold_it() {
        for label in ["patient_DOB", "bod", "M.R.N.", "год рождения", "né"] {
            assert!(Letters::of(label).hold_any(&WORDS), "{label}");
        }
        for label in ["", "order_id", "placed at", "DB", "42"] {
            assert!(!Letters::of(label).hold_any(&WORDS), "{label}");
        }
    }
}
