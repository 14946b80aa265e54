//! Digit groups as people write numbers: `4111 1111 1111 1111`, `(506) 234-5636`, `10.0.0.7`.
//!
//! Only reads shapes; what a shape means is for the kinds.

/// What stands between two groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing: the first group.
    Start,
    Space,
    Dash,
    Dot,
    Slash,
    /// A parenthesis, opening or closing, with or without a space or hyphen.
    Paren,
}

/// One run of digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) gap: Gap,
}

impl Group {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }
}

const GROUPS: usize = 8;
/// More digits than any number that is looked for.
const DIGITS: usize = 24;

/// Up to eight groups, read from one place on.
pub(super) struct Digits<'t> {
    bytes: &'t [u8],
    groups: [Group; GROUPS],
    count: usize,
}

impl<'t> Digits<'t> {
    /// Reads groups from `start`, which must be a digit.
    pub(super) fn read(bytes: &'t [u8], start: usize) -> Digits<'t> {
        let mut groups = [Group {
            start,
            end: start,
            gap: Gap::Start,
        }; GROUPS];
        let mut count = 0;
        let mut total = 0;
        let mut at = start;
        let mut gap = Gap::Start;
        while count < GROUPS {
            let end = end_of_run(bytes, at);
            total += end - at;
            if total > DIGITS && count > 0 {
                break;
            }
            groups[count] = Group { start: at, end, gap };
            count += 1;
            let Some((next_gap, width)) = gap_at(bytes, end) else {
                break;
            };
            gap = next_gap;
            at = end + width;
        }
        Digits { bytes, groups, count }
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups[..self.count]
    }

    /// The digits of the first `groups` groups; none if there are too many.
    pub(super) fn join(&self, groups: usize) -> Joined {
        let mut joined = Joined {
            digits: [0; DIGITS],
            count: 0,
        };
        for group in &self.groups[..groups] {
            let count = joined.count + group.len();
            if count > DIGITS {
                return Joined {
                    digits: [0; DIGITS],
                    count: 0,
                };
            }
            joined.digits[joined.count..count].copy_from_slice(&self.bytes[group.start..group.end]);
            joined.count = count;
        }
        joined
    }
}

/// Digits without their gaps, as ASCII.
pub(super) struct Joined {
    digits: [u8; DIGITS],
    count: usize,
}

impl Joined {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[..self.count]
    }
}

/// Where the run of digits that holds `at` ends.
pub(super) fn end_of_run(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// The gap at `at` and its width in bytes, if a digit follows it.
fn gap_at(bytes: &[u8], at: usize) -> Option<(Gap, usize)> {
    let mut gap = None;
    let mut width = 0;
    while width < 6 {
        let rest = bytes.get(at + width..)?;
        if rest.first()?.is_ascii_digit() {
            return gap.map(|gap| (gap, width));
        }
        let (next, step) = separator(rest)?;
        gap = match (gap, next) {
            (None, next) => Some(next),
            // `) `, ` (`, `)-`, `-(`: at most one mark besides a parenthesis.
            (Some(Gap::Paren), Gap::Space | Gap::Dash | Gap::Paren) | (Some(Gap::Space | Gap::Dash), Gap::Paren) => {
                Some(Gap::Paren)
            }
            _ => return None,
        };
        width += step;
    }
    None
}

fn separator(rest: &[u8]) -> Option<(Gap, usize)> {
    Some(match rest {
        [b' ', ..] => (Gap::Space, 1),
        [b'-', ..] => (Gap::Dash, 1),
        [b'.', ..] => (Gap::Dot, 1),
        [b'/', ..] => (Gap::Slash, 1),
        [b'(' | b')', ..] => (Gap::Paren, 1),
        // No-break space, narrow no-break space, non-breaking hyphen, en dash.
        [0xc2, 0xa0, ..] => (Gap::Space, 2),
        [0xe2, 0x80, 0xaf, ..] => (Gap::Space, 3),
        [0xe2, 0x80, 0x90..=0x93, ..] => (Gap::Dash, 3),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> Vec<(Gap, usize)> {
        Digits::read(text.as_bytes(), 0)
            .groups()
            .iter()
            .map(|group| (group.gap, group.len()))
            .collect()
    }

    #[test]
    fn groups_are_read_with_their_gaps() {
        assert_eq!(
            shape("506) 234-5636 x"),
            [(Gap::Start, 3), (Gap::Paren, 3), (Gap::Dash, 4)]
        );
        assert_eq!(
            shape("44 (0)20\u{a0}7946"),
            [(Gap::Start, 2), (Gap::Paren, 1), (Gap::Paren, 2), (Gap::Space, 4)]
        );
        assert_eq!(shape("1  2"), [(Gap::Start, 1)]);
        assert_eq!(
            shape("1.2.3.4."),
            [(Gap::Start, 1), (Gap::Dot, 1), (Gap::Dot, 1), (Gap::Dot, 1)]
        );
    }

    #[test]
    fn reading_is_bounded() {
        assert_eq!(shape(&"1 ".repeat(100)).len(), GROUPS);
        let long = "9".repeat(100);
        assert!(Digits::read(long.as_bytes(), 0).join(1).as_bytes().is_empty());
    }
}
