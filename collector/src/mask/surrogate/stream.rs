//! Keyed bytes, as many as needed, and letters and digits drawn from them.

/// A stream that the key, the domain and the data decide.
pub(super) struct Stream {
    reader: blake3::OutputReader,
    /// What was read of it: a whole block costs as much as a byte.
    block: [u8; BLOCK],
    used: usize,
}

const BLOCK: usize = 64;

/// Without letters and digits that look alike.
const PLAIN: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
const CONSONANTS: &[u8] = b"bcdfghjklmnpqrstvwxz";
const VOWELS: &[u8] = b"aeiou";
const RARE: &[u8] = b"jqx";

impl Stream {
    /// The domain says what the bytes are for, so that one key does for all of it.
    pub(super) fn new(key: &[u8; 32], domain: &str, data: &[u8]) -> Stream {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher
            .update(b"understudy surrogate 2\0")
            .update(domain.as_bytes())
            .update(b"\0")
            .update(data);
        Stream {
            reader: hasher.finalize_xof(),
            block: [0; BLOCK],
            used: BLOCK,
        }
    }

    /// A number below `bound`; the bias is under 2⁻²⁴ for the bounds used here.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        if self.used == BLOCK {
            self.reader.fill(&mut self.block);
            self.used = 0;
        }
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.block[self.used..self.used + 4]);
        self.used += 4;
        u32::from_le_bytes(bytes) % bound
    }

    pub(super) fn pick(&mut self, letters: &[u8]) -> u8 {
        letters[self.below(letters.len() as u32) as usize]
    }

    pub(super) fn word(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(self.pick(PLAIN))).collect()
    }

    pub(super) fn digit(&mut self) -> u8 {
        self.pick(b"0123456789")
    }

    pub(super) fn syllables(&mut self, count: usize) -> String {
        let letters = (0..count).flat_map(|_| [CONSONANTS, VOWELS]);
        letters.map(|letters| char::from(self.pick(letters))).collect()
    }

    /// A syllable that ends words that are made here.
    pub(super) fn last_syllable(&mut self) -> String {
        [RARE, VOWELS]
            .map(|letters| char::from(self.pick(letters)))
            .iter()
            .collect()
    }

    /// A letter or digit of the same class; anything else as it is. The class of what comes out is the same again.
    pub(super) fn like(&mut self, letter: char) -> char {
        char::from(match letter {
            '0'..='9' => self.digit(),
            'A'..='Z' => self.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
            'a'..='z' => self.pick(b"abcdefghijklmnopqrstuvwxyz"),
            _ if letter.is_ascii() => return letter,
            _ if letter.is_uppercase() => self.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
            _ => self.pick(b"abcdefghijklmnopqrstuvwxyz"),
        })
    }
}
