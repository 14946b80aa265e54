//! Eight bytes of a text, looked at all at once by arithmetic on one number.
//!
//! A question is answered by marks: the high bit of each byte that it is true of.

/// Eight bytes, the first of them lowest; zeros past the end of the text.
#[derive(Clone, Copy)]
pub(super) struct Eight(pub(super) u64);

/// The same byte eight times.
const fn all(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

const MARKS: u64 = all(0x80);

impl Eight {
    #[inline]
    pub(super) fn at(bytes: &[u8], at: usize) -> Eight {
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.first_chunk() {
            Some(eight) => Eight(u64::from_le_bytes(*eight)),
            None => Eight::last(bytes, rest),
        }
    }

    /// The same near the end of the text, where fewer are left.
    #[inline]
    fn last(bytes: &[u8], rest: &[u8]) -> Eight {
        let four = |four: Option<&[u8; 4]>| four.map(|four| u64::from(u32::from_le_bytes(*four)));
        Eight(
            match (bytes.last_chunk(), four(rest.first_chunk()), four(rest.last_chunk())) {
                _ if rest.is_empty() => 0,
                (Some(last), _, _) => u64::from_le_bytes(*last) >> (64 - 8 * rest.len()),
                (_, Some(first), Some(last)) => first | last << (8 * (rest.len() - 4)),
                _ => rest.iter().rev().fold(0, |eight, byte| eight << 8 | u64::from(*byte)),
            },
        )
    }

    /// The first `count` of them, zeros after.
    #[inline]
    pub(super) fn first(self, count: usize) -> Eight {
        Eight(if count < 8 {
            self.0 & ((1 << (8 * count)) - 1)
        } else {
            self.0
        })
    }

    /// Marks ASCII letters of either case.
    #[inline]
    pub(super) fn letters(self) -> u64 {
        between((self.0 | all(0x20)) & !MARKS, b'a', b'z') & !self.0
    }

    /// Marks ASCII digits.
    #[inline]
    pub(super) fn digits(self) -> u64 {
        between(self.0 & !MARKS, b'0', b'9') & !self.0
    }

    /// Marks a byte wherever it stands.
    #[inline]
    pub(super) fn is(self, byte: u8) -> u64 {
        let differs = self.0 ^ all(byte);
        !(((differs & !MARKS) + !MARKS) | differs) & MARKS
    }

    /// Marks those of `letters` that are capitals.
    #[inline]
    pub(super) fn capitals(self, letters: u64) -> u64 {
        letters & !(self.0 << 2)
    }

    /// Where a JSON string's plain run ends: at a quote, a backslash, a control character; 8 where it goes on.
    #[inline]
    pub(super) fn plain_in_json(self) -> usize {
        // The lowest mark of each is right; above it a borrow may have made more.
        let is = |byte| lower_than(self.0 ^ all(byte), 1);
        place(is(b'"') | is(b'\\') | lower_than(self.0, 0x20))
    }
}

/// Which byte the lowest mark is at; 8 for none.
#[inline]
pub(super) fn place(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

/// Marks every byte that has none.
#[inline]
pub(super) fn others(marks: u64) -> u64 {
    !marks & MARKS
}

/// Marks bytes from `first` to `last`, among bytes that are all ASCII.
#[inline]
fn between(ascii: u64, first: u8, last: u8) -> u64 {
    (ascii + all(0x80 - first)) & !(ascii + all(0x7f - last)) & MARKS
}

/// Marks the lowest byte that is under `end`, which is ASCII, and perhaps more above it.
#[inline]
fn lower_than(bytes: u64, end: u8) -> u64 {
    bytes.wrapping_sub(all(end)) & !bytes & MARKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_in_every_place() {
        for byte in 0..=255_u8 {
            for at in 0..8 {
                let mut bytes = *b"........";
                bytes[at] = byte;
                let eight = Eight::at(&bytes, 0);
                let mark = |holds: bool| if holds { 0x80 << (8 * at) } else { 0 };
                assert_eq!(eight.letters(), mark(byte.is_ascii_alphabetic()), "{byte}");
                assert_eq!(eight.digits(), mark(byte.is_ascii_digit()), "{byte}");
                assert_eq!(eight.is(byte) & (0xff << (8 * at)), mark(true), "{byte}");
                assert_eq!(
                    eight.is(byte ^ 1),
                    if byte ^ 1 == b'.' {
                        all(0x80) & !(0xff << (8 * at))
                    } else {
                        0
                    },
                    "{byte}"
                );
                assert_eq!(
                    eight.capitals(eight.letters()),
                    mark(byte.is_ascii_uppercase()),
                    "{byte}"
                );
                let is_special = byte == b'"' || byte == b'\\' || byte < 0x20;
                assert_eq!(eight.plain_in_json(), if is_special { at } else { 8 }, "{byte}");
            }
        }
    }

    #[test]
    fn past_the_end_are_zeros() {
        assert_eq!(Eight::at(b"xab", 1).0, u64::from_le_bytes(*b"ab\0\0\0\0\0\0"));
        assert_eq!(Eight::at(b"x", 7).0, 0);
        let text = b"abcdefghijkl";
        for (from, to) in (0..=12).flat_map(|from| (from..=12).map(move |to| (from, to))) {
            for at in 0..=to - from {
                let mut left = [0; 8];
                let count = (to - from - at).min(8);
                left[..count].copy_from_slice(&text[from + at..from + at + count]);
                assert_eq!(Eight::at(&text[from..to], at).0, u64::from_le_bytes(left));
            }
        }
        assert_eq!(
            Eight::at(b"abcdefgh", 0).first(2).0,
            u64::from_le_bytes(*b"ab\0\0\0\0\0\0")
        );
        assert_eq!(others(Eight(0).letters()), MARKS);
    }
}
