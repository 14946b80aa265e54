//! Telephone numbers: international ones by the numbering plan, national ones by how people write them.
//!
//! A bare run of digits is a telephone number only directly under a word that says so; epochs, ids and orders stay.

pub(super) mod plan;

use super::digits::{Digits, Gap, Group};
use super::hit::Hit;
use super::kind::Kind;
use super::scene::{Cues, Scene, is_free_after, is_free_before};

const CUES: &Cues = &Cues::new(&[
    "phone",
    "phones",
    "telephone",
    "tel",
    "telno",
    "ph",
    "mobile",
    "mob",
    "cell",
    "cellphone",
    "fax",
    "call",
    "calling",
    "called",
    "dial",
    "ring",
    "sms",
    "whatsapp",
    "telegram",
    "signal",
    "reach",
    "msisdn",
    "landline",
    "hotline",
    "callback",
    "voicemail",
    "telefon",
    "telefone",
    "teléfono",
    "telefono",
    "téléphone",
    "handy",
    "mobil",
    "móvil",
    "movil",
    "celular",
    "cellulare",
    "portable",
    "appelez",
    "llame",
    "ligue",
    "anrufen",
    "rufnummer",
    "handynummer",
    "telefonnummer",
    "mobilnummer",
    "telefoon",
    "gsm",
    "telefonu",
    "telefonszám",
    "puhelin",
    "電話",
    "电话",
    "手机",
    "전화",
    "телефон",
    "هاتف",
    "फ़ोन",
    "desk",
    "office",
    "answering",
    "contact",
    "text",
    "texted",
    "helpline",
    "dialled",
    "dialed",
    "rang",
]);

/// Words after a number that say what it is: `… mobile`, `… (fax)`.
const LATER_CUES: &Cues = &Cues::new(&[
    "mobile", "cell", "fax", "office", "home", "work", "phone", "tel", "direct", "landline", "whatsapp",
]);

/// Words that say the number is something else.
const OTHER_CUES: &Cues = &Cues::new(&[
    "order",
    "orders",
    "ticket",
    "id",
    "ids",
    "sku",
    "ref",
    "reference",
    "invoice",
    "case",
    "po",
    "serial",
    "isbn",
    "issn",
    "part",
    "item",
    "tracking",
    "account",
    "acct",
    "policy",
    "version",
    "build",
    "commit",
    "size",
    "price",
    "amount",
    "total",
    "zip",
    "checksum",
    "units",
    "date",
    "dated",
    "timestamp",
    "ts",
    "time",
    "confirmation",
    "booking",
    "rma",
    "upc",
    "ean",
    "asin",
]);

/// The telephone number whose first digits are `digits`.
pub(super) fn at(scene: &Scene<'_>, digits: &Digits<'_>) -> Option<Hit> {
    let bytes = scene.bytes();
    let first = digits.groups()[0].start;
    let before = &bytes[..first];
    if let Some(plus) = before.strip_suffix(b"+").or_else(|| before.strip_suffix(b"+(")) {
        return international(scene, digits, plus.len(), 0);
    }
    if before.ends_with(b"%2B") {
        return international(scene, digits, first, 0);
    }
    let start = first - usize::from(before.ends_with(b"("));
    if !starts_free(scene.text, start) || goes_on_in_fours(&bytes[..start]) {
        return None;
    }
    if bytes[first..].starts_with(b"00") {
        return international(scene, digits, start, 2);
    }
    let national = National {
        scene,
        digits,
        start,
        is_in_parentheses: start < first,
    };
    let hit = national
        .north_american()
        .or_else(|| national.with_trunk_zero())
        .or_else(|| national.under_a_cue())?;
    (!scene.follows(start, OTHER_CUES)).then_some(hit)
}

/// A country code and a number of a length that its plan has; `skip` digits of international prefix come first.
fn international(scene: &Scene<'_>, digits: &Digits<'_>, start: usize, skip: usize) -> Option<Hit> {
    let bytes = scene.bytes();
    let has_plus = bytes[start] == b'+';
    if has_plus
        && (!is_free_before(scene.text, start) || bytes[..start].ends_with(b"/") || bytes[..start].ends_with(b"+"))
    {
        return None;
    }
    let groups = digits.groups();
    for count in (1..=groups.len()).rev() {
        let joined = digits.join(count);
        let Some(number) = joined.as_bytes().get(skip..) else {
            continue;
        };
        // `+44 (0)20 …`: the trunk zero is written but not dialled.
        let written_zero = groups[..count]
            .iter()
            .any(|group| group.gap == Gap::Paren && group.len() == 1);
        let fits = plan::fits(number) || (written_zero && number.len() > 8 && plan::fits_with_zero(number));
        if fits && (skip == 0 || count > 1 || scene.follows(start, CUES)) {
            let end = with_extension(bytes, groups[count - 1].end);
            if is_free_after(bytes, end) {
                return Some(Hit::sure(start, end, Kind::Phone));
            }
        }
    }
    None
}

/// No word, id, decimal or amount goes over into the number.
fn starts_free(text: &str, start: usize) -> bool {
    if !is_free_before(text, start) {
        return false;
    }
    let before = &text.as_bytes()[..start];
    let is_tail = matches!(before, [.., byte, b'.' | b'-' | b'/' | b':'] if byte.is_ascii_digit())
        || matches!(before, [.., byte, b'-'] if byte.is_ascii_alphanumeric());
    !is_tail && !matches!(before.last(), Some(b'#' | b'$' | b'%' | b'+')) && !text[..start].ends_with(['€', '£', '¥'])
}

/// Whether four digits and a space stand before: a card number that fails its check, or another long row, is no phone.
fn goes_on_in_fours(before: &[u8]) -> bool {
    let digits = before.strip_suffix(b" ").unwrap_or_default();
    digits.iter().rev().take_while(|byte| byte.is_ascii_digit()).count() == 4
}

/// Whether a group of four after the first `count` groups goes on from another.
fn goes_on(groups: &[Group], count: usize) -> bool {
    let next = groups
        .get(count)
        .filter(|next| matches!(next.gap, Gap::Space | Gap::Dash));
    next.is_some_and(|next| next.len() == 4 && groups[count - 1].len() == 4)
}

/// Where the number ends with its extension: `x680`, `ext. 12`.
fn with_extension(bytes: &[u8], end: usize) -> usize {
    let rest = &bytes[end..];
    let spaces = usize::from(rest.first() == Some(&b' '));
    let word = &rest[spaces..];
    let marks: [&[u8]; 5] = [b"extension ", b"ext. ", b"ext.", b"ext ", b"x"];
    let Some(mark) = marks
        .into_iter()
        .find(|mark| word.len() >= mark.len() && word[..mark.len()].eq_ignore_ascii_case(mark))
    else {
        return end;
    };
    let digits_at = end + spaces + mark.len();
    let digits = bytes[digits_at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if (1..=6).contains(&digits) {
        digits_at + digits
    } else {
        end
    }
}

/// A number without country code.
struct National<'a, 't> {
    scene: &'a Scene<'t>,
    digits: &'a Digits<'t>,
    start: usize,
    is_in_parentheses: bool,
}

impl National<'_, '_> {
    /// The span up to the end of a group, extension included, if the number may end there.
    fn ending_with(&self, group: Group) -> Option<(usize, usize)> {
        let bytes = self.scene.bytes();
        let end = with_extension(bytes, group.end);
        is_free_after(bytes, end).then_some((self.start, end))
    }

    /// `(506) 234-5636`, `506-233-6690`, `1-506-233-6690`; area and exchange begin with 2 to 9.
    fn north_american(&self) -> Option<Hit> {
        let groups = self.digits.groups();
        let bytes = self.scene.bytes();
        let is_prefixed = groups[0].len() == 1 && bytes[groups[0].start] == b'1';
        let body = &groups[usize::from(is_prefixed)..];
        let [area, exchange, line, ..] = body else { return None };
        let is_plan = [area, exchange]
            .iter()
            .all(|group| group.len() == 3 && bytes[group.start] > b'1')
            && line.len() == 4;
        if !is_plan {
            return None;
        }
        let (start, end) = self.ending_with(*line)?;
        let is_spaces_alone = exchange.gap == Gap::Space && line.gap == Gap::Space;
        match (exchange.gap, line.gap) {
            (Gap::Paren, Gap::Dash | Gap::Space | Gap::Dot) => {}
            (Gap::Dash | Gap::Slash, Gap::Dash) | (Gap::Dot, Gap::Dot) | (Gap::Space, Gap::Dash | Gap::Space) => {}
            _ => return None,
        }
        if !is_spaces_alone {
            return Some(Hit::sure(start, end, Kind::Phone));
        }
        self.scene
            .near(start, CUES)
            .then(|| Hit::by_context(start, end, Kind::Phone))
    }

    /// `0121 234 5517`, `06 12 34 51 83`, `(030) 123456`, `03-1234-5776`.
    fn with_trunk_zero(&self) -> Option<Hit> {
        let groups = self.digits.groups();
        let bytes = self.scene.bytes();
        let code = groups[0];
        let has_trunk_zero = bytes[code.start] == b'0'
            && bytes
                .get(code.start + 1)
                .is_some_and(|digit| (b'1'..=b'9').contains(digit));
        if !has_trunk_zero || !(2..=5).contains(&code.len()) {
            return None;
        }
        // Pairs are written in fives (`06 12 34 51 83`); a longer row of pairs is a list.
        let pairs = groups.iter().take_while(|group| group.len() == 2).count();
        if pairs > 5 {
            return None;
        }
        for count in (2..=groups.len()).rev() {
            let total: usize = groups[..count].iter().map(Group::len).sum();
            let is_other = is_date(&groups[..count]) || goes_on(groups, count);
            if !(9..=12).contains(&total) || !is_written_evenly(&groups[..count]) || is_other {
                continue;
            }
            if let Some((start, end)) = self.ending_with(groups[count - 1]) {
                return Some(Hit::sure(start, end, Kind::Phone));
            }
        }
        None
    }

    /// Any other way to write seven to thirteen digits, under a word such as `phone`; Brazil's `(11) 91234-5678`.
    fn under_a_cue(&self) -> Option<Hit> {
        let groups = self.digits.groups();
        for count in (1..=groups.len()).rev() {
            let taken = &groups[..count];
            let total: usize = taken.iter().map(Group::len).sum();
            let is_area_code = self.is_in_parentheses
                && groups[0].len() <= 4
                && count > 1
                && groups[1].gap == Gap::Paren
                && (9..=11).contains(&total);
            if !(7..=13).contains(&total) || !is_written_evenly(taken) || is_date(taken) || goes_on(groups, count) {
                continue;
            }
            let Some((start, end)) = self.ending_with(groups[count - 1]) else {
                continue;
            };
            if is_area_code {
                return Some(Hit::sure(start, end, Kind::Phone));
            }
            let is_apart = count > 1 && taken.iter().all(|group| group.gap != Gap::Dot) && total >= 8;
            let is_named_later = is_apart && self.scene.precedes(end, LATER_CUES);
            if self.scene.follows(start, CUES) || (is_apart && self.scene.near(start, CUES)) || is_named_later {
                return Some(Hit::by_context(start, end, Kind::Phone));
            }
        }
        None
    }
}

/// One kind of gap throughout, the first aside; no group of one digit after it.
fn is_written_evenly(groups: &[Group]) -> bool {
    let gaps_agree = groups.windows(2).skip(1).all(|pair| {
        pair[0].gap == pair[1].gap || pair[0].gap != Gap::Dot && pair[1].gap != Gap::Dot && pair[1].gap != Gap::Slash
    });
    gaps_agree && groups[1..].iter().all(|group| (2..=8).contains(&group.len()))
}

/// `01.02.2024 …`, `2024-01-02 …`.
fn is_date(groups: &[Group]) -> bool {
    let lengths = [0, 1, 2].map(|place| groups.get(place).map_or(0, Group::len));
    let gaps_agree = groups.len() > 2 && groups[1].gap == groups[2].gap;
    let is_year_first = lengths == [4, 2, 2] && groups[1].gap != Gap::Space;
    gaps_agree && (matches!(lengths, [1 | 2, 1 | 2, 4]) || is_year_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'t>(text: &'t str, label: &str) -> Option<&'t str> {
        let first = text.find(|letter: char| letter.is_ascii_digit())?;
        at(&Scene::new(text, label), &Digits::read(text.as_bytes(), first)).map(|hit| &text[hit.start..hit.end])
    }

    #[test]
    fn international_numbers() {
        for value in [
            "+522001234553",
            "+33 6 12 34 51 83",
            "+55 11 2345-6769",
            "+468112198",
            "+1 506-234-5647",
            "+49 30 123778",
            "+351 210 123 456",
            "+1 (506) 234-5636 x680",
            "+44 (0)20 7946 0958",
            "+1-506-234-5647x12",
            "+46 8 11 21 98",
            "0049 30 1234567",
            "+(44) 7911 123456",
        ] {
            assert_eq!(found(&format!("or {value}."), ""), Some(value));
        }
        let url = "?tel=%2B15062345647&x";
        let hit = at(&Scene::new(url, ""), &Digits::read(url.as_bytes(), 8)).unwrap();
        assert_eq!(&url[hit.start..hit.end], "15062345647");
    }

    #[test]
    fn national_numbers() {
        for value in [
            "(506) 234-5636 x680",
            "506-233-6690",
            "506.233.6690",
            "1-506-233-6690",
            "0121 234 5517",
            "01234 567890",
            "06 12 34 51 83",
            "(030) 123456",
            "03-1234-5776",
            "(11) 91234-5678",
            "030/1234567",
        ] {
            assert_eq!(found(&format!("or {value}, thanks"), ""), Some(value));
        }
        for (text, value) in [
            ("phone: 5062336690", "5062336690"),
            ("call me at 81234 56714 today", "81234 56714"),
            ("my mobile is 612 34 67 66", "612 34 67 66"),
            ("Tel. 555-1234", "555-1234"),
        ] {
            assert_eq!(found(text, ""), Some(value), "{text}");
        }
        assert_eq!(found("5062336690", "phone_number"), Some("5062336690"));
    }

    #[test]
    fn ids_epochs_dates_and_orders_stay() {
        for text in [
            "ticket 9709768856",
            "1719382210",
            "order 506-233-6690",
            "ORD-083016613",
            "#506-233-6690",
            "2026-04-13 11:03",
            "01.02.2024 1030",
            "b3bd18ec-cb62",
            "82014734-0d33-4adc",
            "743507.3713",
            "$33,786.94",
            "+100 000 000",
            "a+15062345647",
            "640 480 1080",
            "506-233-6690-1",
            "106-233-6690",
            "01 02 03 04 05 06",
            "0.123 456 789",
            "978-3-16-148410-0",
            "Will Call window, ticket 9709768856",
        ] {
            assert_eq!(found(text, ""), None, "{text}");
        }
        assert_eq!(found("5062336690", "order_id"), None);
    }
}
