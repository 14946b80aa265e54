//! Account numbers with a check of their own: IBAN (ISO 13616, mod 97) and US social security numbers.
//!
//! An IBAN is taken only with its country's length and a right check; a bare nine-digit number only under a label.

use super::digits::{Digits, Gap};
use super::hit::Hit;
use super::kind::Kind;
use super::scene::{Cues, Scene, is_free_after, is_free_before};

/// Length of an IBAN by country, from the SWIFT registry.
const LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// The IBAN whose check digits begin at `digits_at`.
pub(super) fn iban_at(scene: &Scene<'_>, digits_at: usize) -> Option<Hit> {
    let bytes = scene.bytes();
    let start = digits_at.checked_sub(2)?;
    let country = [bytes[start].to_ascii_uppercase(), bytes[start + 1].to_ascii_uppercase()];
    if !country.iter().all(u8::is_ascii_uppercase) || !is_free_before(scene.text, start) {
        return None;
    }
    let length = LENGTHS.iter().find(|(code, _)| **code == country)?.1;
    let end = end_of_letters_and_digits(bytes, start, length)?;
    let value = compact(&bytes[start..end]);
    let checks = value[2..4].iter().all(u8::is_ascii_digit) && remainder(&value) == 1;
    (checks && is_free_after(bytes, end)).then(|| Hit::sure(start, end, Kind::Iban))
}

/// Where `count` letters and digits end, single separators between them passed over.
fn end_of_letters_and_digits(bytes: &[u8], start: usize, count: usize) -> Option<usize> {
    let mut at = start;
    let mut taken = 0;
    let mut after_gap = true;
    while taken < count {
        match bytes.get(at..)? {
            [byte, ..] if byte.is_ascii_alphanumeric() => {
                taken += 1;
                after_gap = false;
                at += 1;
            }
            [b' ' | b'-', ..] if !after_gap => {
                after_gap = true;
                at += 1;
            }
            [0xc2, 0xa0, ..] if !after_gap => {
                after_gap = true;
                at += 2;
            }
            _ => return None,
        }
    }
    Some(at)
}

/// Letters and digits alone, in upper case.
pub(super) fn compact(value: &[u8]) -> Vec<u8> {
    value
        .iter()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(u8::to_ascii_uppercase)
        .collect()
}

/// ISO 7064 mod 97 of a compact IBAN.
fn remainder(value: &[u8]) -> u32 {
    let turned = value[4..].iter().chain(&value[..4]);
    turned.fold(0, |sum, byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte - b'A') + 10) % 97,
    })
}

/// Sets the check digits of a compact IBAN.
pub(super) fn set_iban_check(value: &mut [u8]) {
    value[2..4].copy_from_slice(b"00");
    let check = 98 - remainder(value);
    value[2] = b'0' + (check / 10) as u8;
    value[3] = b'0' + (check % 10) as u8;
}

const SSN_CUES: &Cues = &Cues::new(&["ssn", "ssns", "social", "security", "itin", "tin", "taxpayer"]);

/// The social security number that begins at `digits`: `078-05-1120`, or nine digits under a label.
pub(super) fn ssn_at(scene: &Scene<'_>, digits: &Digits<'_>) -> Option<Hit> {
    let groups = digits.groups();
    let start = groups[0].start;
    let is_written_apart = groups.len() >= 3
        && (groups[0].len(), groups[1].len(), groups[2].len()) == (3, 2, 4)
        && matches!(groups[1].gap, Gap::Dash | Gap::Space)
        && groups[1].gap == groups[2].gap;
    let taken = if is_written_apart {
        3
    } else if groups[0].len() == 9 {
        1
    } else {
        return None;
    };
    let end = groups[taken - 1].end;
    let before = &scene.bytes()[..start];
    let is_tail = matches!(before, [.., byte, b'-' | b'.' | b'/'] if byte.is_ascii_alphanumeric());
    let is_free = is_free_before(scene.text, start) && is_free_after(scene.bytes(), end);
    if is_tail
        || !is_free
        || matches!(before.last(), Some(b'#' | b'$' | b'+'))
        || !is_issued(digits.join(taken).as_bytes())
    {
        return None;
    }
    if is_written_apart {
        return Some(Hit::sure(start, end, Kind::UsSsn));
    }
    scene
        .follows(start, SSN_CUES)
        .then(|| Hit::by_context(start, end, Kind::UsSsn))
}

/// Numbers that may be issued: no 000 or 666 area, no 00 group, no 0000 serial; 9xx only as ITIN.
fn is_issued(number: &[u8]) -> bool {
    let [area @ .., g1, g2, s1, s2, s3, s4] = number else {
        return false;
    };
    let group = (g1 - b'0') * 10 + (g2 - b'0');
    let is_area = area != b"000" && area != b"666" && (area[0] != b'9' || group >= 50);
    is_area && group != 0 && [s1, s2, s3, s4].iter().any(|digit| **digit != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssn(text: &str) -> Option<&str> {
        let first = text.find(|letter: char| letter.is_ascii_digit())?;
        let scene = Scene::new(text, "");
        ssn_at(&scene, &Digits::read(text.as_bytes(), first)).map(|hit| &text[hit.start..hit.end])
    }

    fn iban(text: &str) -> Option<&str> {
        let first = text.find(|letter: char| letter.is_ascii_digit())?;
        iban_at(&Scene::new(text, ""), first).map(|hit| &text[hit.start..hit.end])
    }

    #[test]
    fn ibans_need_length_and_check() {
        for value in [
            "DE89370400440532013000",
            "GB29 NWBK 6016 1331 9268 19",
            "NO93-8601-1117-947",
            "fr1420041010050500013m02606",
        ] {
            assert_eq!(iban(&format!("to {value}, please")), Some(value));
        }
        for text in [
            "DE89370400440532013001",
            "DE8937040044053201300",
            "XDE89370400440532013000",
            "DE893704004405320130001",
            "ZZ89370400440532013000",
        ] {
            assert_eq!(iban(text), None, "{text}");
        }
    }

    #[test]
    fn an_iban_check_is_made() {
        let mut value = *b"DE00370400440532013000";
        set_iban_check(&mut value);
        assert_eq!(&value, b"DE89370400440532013000");
    }

    #[test]
    fn social_security_numbers() {
        for (text, value) in [
            ("SSN: 078-05-1120.", "078-05-1120"),
            ("is 443 61 0994 and", "443 61 0994"),
            ("ssn=078051120", "078051120"),
        ] {
            assert_eq!(ssn(text), Some(value));
        }
        for text in [
            "000-05-1120",
            "666-05-1120",
            "078-00-1120",
            "078-05-0000",
            "900-12-1120",
            "078051120",
            "078-05 1120",
            "a-078-05-1120",
            "078-05-1120-1",
        ] {
            assert_eq!(ssn(text), None, "{text}");
        }
    }
}
