//! The world's numbering plan, as far as masking needs it: country codes and lengths (ITU-T E.164 and its national annexes).
//!
//! Lengths are those of subscriber numbers in use, a digit of tolerance included; ranges within a country are not checked.

use std::ops::RangeInclusive;

/// Length of the number after a country code.
const LENGTHS: &[(&[u8], RangeInclusive<usize>)] = &[
    (b"1", 10..=10),
    (b"7", 10..=10),
    (b"20", 8..=10),
    (b"27", 9..=9),
    (b"30", 10..=10),
    (b"31", 9..=9),
    (b"32", 8..=9),
    (b"33", 9..=9),
    (b"34", 9..=9),
    (b"36", 8..=9),
    (b"39", 8..=11),
    (b"40", 9..=9),
    (b"41", 9..=9),
    (b"43", 7..=13),
    (b"44", 9..=10),
    (b"45", 8..=8),
    (b"46", 7..=10),
    (b"47", 8..=8),
    (b"48", 9..=9),
    (b"49", 6..=12),
    (b"51", 8..=9),
    (b"52", 10..=11),
    (b"53", 8..=8),
    (b"54", 10..=11),
    (b"55", 10..=11),
    (b"56", 9..=9),
    (b"57", 8..=10),
    (b"58", 10..=10),
    (b"60", 8..=10),
    (b"61", 8..=10),
    (b"62", 8..=12),
    (b"63", 8..=10),
    (b"64", 8..=10),
    (b"65", 8..=8),
    (b"66", 8..=9),
    (b"81", 9..=10),
    (b"82", 8..=11),
    (b"84", 9..=10),
    (b"86", 10..=11),
    (b"90", 10..=10),
    (b"91", 10..=10),
    (b"92", 9..=10),
    (b"93", 9..=9),
    (b"94", 9..=9),
    (b"95", 7..=10),
    (b"98", 10..=10),
    (b"351", 9..=9),
    (b"358", 6..=12),
    (b"420", 9..=9),
    (b"352", 6..=11),
    (b"353", 7..=9),
    (b"852", 8..=8),
    (b"853", 8..=8),
    (b"886", 8..=9),
    (b"971", 8..=9),
    (b"972", 8..=9),
];

/// Lengths where the table has no row.
const OTHER_LENGTHS: RangeInclusive<usize> = 7..=10;

/// Three-digit country codes that are given out.
const THREE_DIGIT_CODES: &[RangeInclusive<u32>] = &[
    211..=213,
    216..=216,
    218..=218,
    220..=258,
    260..=269,
    290..=291,
    297..=299,
    350..=359,
    370..=378,
    380..=383,
    385..=387,
    389..=389,
    420..=421,
    423..=423,
    500..=509,
    590..=599,
    670..=670,
    672..=683,
    685..=692,
    800..=800,
    808..=808,
    850..=850,
    852..=853,
    855..=856,
    870..=870,
    880..=880,
    886..=886,
    960..=968,
    970..=977,
    992..=996,
    998..=998,
];

/// How many digits the country code takes; none if no country has it.
pub(in super::super) fn code_length(number: &[u8]) -> Option<usize> {
    let three = number.get(..3)?;
    let code = three.iter().fold(0, |code, digit| code * 10 + u32::from(digit - b'0'));
    if THREE_DIGIT_CODES.iter().any(|range| range.contains(&code)) {
        return Some(3);
    }
    LENGTHS
        .iter()
        .find(|(code, _)| number.starts_with(code))
        .map(|(code, _)| code.len())
}

/// Whether the digits are a country code and a number of a length it has.
pub(super) fn fits(number: &[u8]) -> bool {
    let Some(code_length) = code_length(number) else {
        return false;
    };
    let (code, rest) = number.split_at(code_length);
    let lengths = LENGTHS
        .iter()
        .find(|(known, _)| *known == code)
        .map_or(&OTHER_LENGTHS, |(_, lengths)| lengths);
    let is_north_american = code != b"1" || rest.first().is_some_and(|digit| *digit > b'1');
    lengths.contains(&rest.len()) && number.len() <= 15 && is_north_american
}

/// The same where the trunk zero was written too.
pub(super) fn fits_with_zero(number: &[u8]) -> bool {
    let Some(code_length) = code_length(number) else {
        return false;
    };
    let (code, rest) = number.split_at(code_length);
    rest.split_first()
        .is_some_and(|(zero, rest)| *zero == b'0' && fits(&[code, rest].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_lengths() {
        for number in ["15062345647", "33612345183", "4930123778", "351210123456", "468112198"] {
            assert!(fits(number.as_bytes()), "{number}");
        }
        for number in [
            "11062345647",
            "3361234518",
            "999123456789",
            "2101234567",
            "1506234564",
            "",
        ] {
            assert!(!fits(number.as_bytes()), "{number}");
        }
        assert!(fits_with_zero(b"4402079460958"));
        assert_eq!(code_length(b"35121"), Some(3));
        assert_eq!(code_length(b"4930"), Some(2));
    }
}
