//! Payment card numbers: brand prefix, brand length, Luhn (ISO/IEC 7812-1), and a grouping that people write.
//!
//! Sixteen digits that fail any of these stay.

use super::digits::{Digits, Gap};
use super::hit::Hit;
use super::kind::Kind;
use super::scene::{Cues, Scene, is_free_after, is_free_before};
use std::ops::RangeInclusive;

/// One range of issuer prefixes.
struct Brand {
    /// The first four digits.
    prefix: RangeInclusive<u32>,
    lengths: RangeInclusive<usize>,
    /// Lengths under it need a word such as `card` before the number.
    sure_from: usize,
    /// Begins the numbers that the brand's test environments hand out.
    test_prefix: &'static [u8],
}

const fn brand(
    prefix: RangeInclusive<u32>,
    lengths: RangeInclusive<usize>,
    sure_from: usize,
    test_prefix: &'static [u8],
) -> Brand {
    Brand {
        prefix,
        lengths,
        sure_from,
        test_prefix,
    }
}

/// First match wins. Visa, Mastercard, American Express, Diners, JCB, Mir, RuPay, Discover, UnionPay, Troy, Maestro.
const BRANDS: &[Brand] = &[
    brand(4000..=4999, 13..=19, 16, b"400000"),
    brand(5100..=5599, 16..=16, 16, b"555555"),
    brand(2221..=2720, 16..=16, 16, b"222300"),
    brand(3400..=3499, 15..=15, 15, b"343434"),
    brand(3700..=3799, 15..=15, 15, b"378282"),
    brand(3000..=3059, 14..=19, 14, b"305693"),
    brand(3095..=3095, 14..=19, 14, b"309500"),
    brand(3600..=3699, 14..=19, 14, b"360000"),
    brand(3800..=3999, 14..=19, 14, b"385200"),
    brand(3528..=3589, 16..=19, 16, b"353011"),
    brand(2200..=2204, 16..=19, 16, b"220000"),
    brand(6011..=6011, 16..=19, 16, b"601100"),
    brand(6440..=6599, 16..=19, 16, b"650000"),
    brand(6200..=6299, 16..=19, 16, b"620000"),
    brand(8100..=8299, 16..=16, 16, b"817000"),
    brand(9792..=9792, 16..=16, 16, b"979200"),
    brand(5000..=5099, 12..=19, 16, b"501800"),
    brand(5600..=6999, 12..=19, 16, b"675900"),
];

const CUES: &Cues = &Cues::new(&[
    "card",
    "cards",
    "cc",
    "credit",
    "debit",
    "visa",
    "mastercard",
    "amex",
    "discover",
    "diners",
    "jcb",
    "maestro",
    "unionpay",
    "pan",
    "payment",
    "charge",
    "charged",
    "pay",
    "paid",
    "billed",
    "declined",
    "karte",
    "kreditkarte",
    "kartennummer",
    "carte",
    "tarjeta",
    "carta",
    "cartão",
    "kaart",
    "kort",
]);

/// Any other number that passes the check, beside a word such as `card`.
const OTHER: Brand = brand(0..=9999, 12..=19, 20, b"675900");

/// The card number that begins at `digits`, if it is one.
pub(super) fn at(scene: &Scene<'_>, digits: &Digits<'_>) -> Option<Hit> {
    let groups = digits.groups();
    let start = groups[0].start;
    if !starts_free(scene.text, start) {
        return None;
    }
    for count in (1..=groups.len()).rev() {
        let taken = &groups[..count];
        let joined = digits.join(count);
        let number = joined.as_bytes();
        let end = taken[count - 1].end;
        if !(12..=19).contains(&number.len()) || !passes_luhn(number) || !is_free_after(scene.bytes(), end) {
            continue;
        }
        let brand = brand_of(number).unwrap_or(&OTHER);
        let is_evenly_written = count == 1
            || (matches!(taken[1].gap, Gap::Space | Gap::Dash)
                && taken[1..]
                    .iter()
                    .all(|group| group.gap == taken[1].gap && group.len() <= 7)
                && taken[0].len() == 4);
        if !is_evenly_written {
            continue;
        }
        if number.len() >= brand.sure_from {
            return Some(Hit::sure(start, end, Kind::CreditCard));
        }
        if scene.near(start, CUES) {
            return Some(Hit::by_context(start, end, Kind::CreditCard));
        }
    }
    None
}

/// A decimal's tail, a hyphenated id's tail and an amount are no card.
fn starts_free(text: &str, start: usize) -> bool {
    if !is_free_before(text, start) {
        return false;
    }
    let before = &text.as_bytes()[..start];
    let is_tail = matches!(before, [.., byte, b'.' | b'-'] if byte.is_ascii_alphanumeric());
    !is_tail && !matches!(before.last(), Some(b'$' | b'#' | b'%' | b'+'))
}

fn brand_of(number: &[u8]) -> Option<&'static Brand> {
    let prefix = number[..4]
        .iter()
        .fold(0, |prefix, digit| prefix * 10 + u32::from(digit - b'0'));
    BRANDS
        .iter()
        .find(|brand| brand.prefix.contains(&prefix) && brand.lengths.contains(&number.len()))
}

/// The prefix of the brand's test numbers; Maestro's where the brand is not known.
pub(super) fn test_prefix(number: &[u8]) -> &'static [u8] {
    let brand = (number.len() >= 12).then(|| brand_of(number)).flatten();
    brand.map_or(b"675900", |brand| brand.test_prefix)
}

/// Luhn's sum over ASCII digits.
fn luhn_sum(digits: &[u8]) -> u32 {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let weigh = |(place, digit): (usize, &u8)| {
        let digit = u32::from(digit - b'0');
        if place % 2 == 1 { doubled(digit) } else { digit }
    };
    digits.iter().rev().enumerate().map(weigh).sum()
}

fn passes_luhn(number: &[u8]) -> bool {
    luhn_sum(number).is_multiple_of(10)
}

/// Sets the last digit so that the number passes Luhn.
pub(super) fn set_check_digit(number: &mut [u8]) {
    let Some(last) = number.len().checked_sub(1) else {
        return;
    };
    number[last] = b'0';
    let missing = (10 - luhn_sum(number) % 10) % 10;
    number[last] = b'0' + missing as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let first = text.find(|letter: char| letter.is_ascii_digit())?;
        let scene = Scene::new(text, "");
        at(&scene, &Digits::read(text.as_bytes(), first)).map(|hit| &text[hit.start..hit.end])
    }

    #[test]
    fn cards_of_many_brands_and_groupings() {
        for number in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "5555-5555-5555-4444",
            "2223003122003222",
            "3782 822463 10005",
            "30569309025904",
            "3056 930902 5904",
            "6011111111111117",
            "3530111333300000",
            "6200000000000005",
            "6759649826438453",
            "4000\u{a0}0566\u{a0}5566\u{a0}5556",
        ] {
            assert_eq!(found(&format!("paid with {number}, thanks")), Some(number));
            assert_eq!(found(&format!("{number} 123")), Some(number));
        }
        assert_eq!(found("card: 4222222222222"), Some("4222222222222"));
    }

    #[test]
    fn look_alikes_stay() {
        for text in [
            "4111111111111112",
            "1719382210123456",
            "0.4111111111111111",
            "id-4111111111111111",
            "a4111111111111111",
            "4111111111111111-a",
            "4222222222222",
            "41111 11111111111",
            "4111.1111.1111.1111",
            "9999999999999995",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn a_check_digit_is_made() {
        let mut number = *b"4111111111111110";
        set_check_digit(&mut number);
        assert_eq!(&number, b"4111111111111111");
    }
}
