//! A set of the first bytes of words that are looked for: a bit for each, so that most places of a text are told at a glance
//! to begin none. It may say yes to others.

const HASH_BITS: u32 = 16;

/// The set.
pub(super) struct Heads(Box<[u64; 1 << (HASH_BITS - 6)]>);

impl Default for Heads {
    fn default() -> Heads {
        Heads(Box::new([0; 1 << (HASH_BITS - 6)]))
    }
}

impl Heads {
    pub(super) fn add(&mut self, head: u32) {
        let (word, bit) = place(head);
        self.0[word] |= bit;
    }

    #[inline]
    pub(super) fn may_hold(&self, head: u32) -> bool {
        let (word, bit) = place(head);
        self.0[word] & bit != 0
    }
}

#[inline]
fn place(head: u32) -> (usize, u64) {
    let hash = head.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// The first four bytes, zeros past the end.
#[inline]
pub(super) fn four(bytes: &[u8]) -> u32 {
    match bytes.first_chunk() {
        Some(four) => u32::from_le_bytes(*four),
        None => bytes.iter().rev().fold(0, |four, byte| four << 8 | u32::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_held_and_hardly_anything_else() {
        let mut heads = Heads::default();
        (0..200).for_each(|head| heads.add(head * 7_919));
        assert!((0..200).all(|head| heads.may_hold(head * 7_919)));
        let others = (0..100_000)
            .filter(|other| other % 7_919 != 0 && heads.may_hold(*other))
            .count();
        assert!(others < 1_000, "{others}");
        assert_eq!((four(b"abcde"), four(b"ab"), four(b"")), (0x6463_6261, 0x6261, 0));
    }
}
