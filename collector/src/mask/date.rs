//! Dates as people write them: `1979-03-04`, `04/03/79`, `4 March 1979`, `March 4th, 1979`, `4 de marzo de 1979`.
//!
//! Reads a date and where its parts stand; whether it is anybody's date of birth is for `birth`.

use super::fold::Folded;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

/// What a part of a date is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Day or month in digits; which of both may be open.
    DayOrMonth,
    MonthName,
    Year,
}

/// A date in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Date {
    /// Its parts in the order of the text, with their bytes.
    pub(super) parts: [(Field, Range<usize>); 3],
}

impl Date {
    /// Where it ends.
    pub(super) fn end(&self) -> usize {
        self.parts[2].1.end
    }
}

/// Names of each month, folded, in the languages of the mask; short forms too.
const MONTHS: [&str; 12] = [
    "january jan januar janvier janv enero ene janeiro gennaio gen januari stycznia ledna ocak tammikuuta",
    "february feb februar fevrier fevr febrero fevereiro fev febbraio februari lutego unora subat helmikuuta",
    "march mar marz maerz mars marzo marco maart marca brezna mart maaliskuuta",
    "april apr avril avr abril abr aprile kwietnia dubna nisan huhtikuuta",
    "may mai mayo maio maggio mag mei maj maja kvetna mayis toukokuuta",
    "june jun juni juin junio junho giugno giu czerwca cervna haziran kesakuuta",
    "july jul juli juillet juil julio julho luglio lug lipca cervence temmuz heinakuuta",
    "august aug aout agosto ago augustus augusti sierpnia srpna agustos elokuuta",
    "september sep sept septembre septiembre setembro set settembre wrzesnia zari eylul syyskuuta",
    "october oct oktober okt octobre octubre outubro out ottobre ott pazdziernika rijna ekim lokakuuta",
    "november nov novembre noviembre novembro listopada listopadu kasim marraskuuta",
    "december dec dezember dez decembre diciembre dic dezembro dicembre grudnia prosince aralik joulukuuta",
];

/// The date that begins at `start`, which must be the first byte of a number or word.
pub(super) fn read(text: &str, start: usize) -> Option<Date> {
    let first = part(text, start)?;
    let (gap, second_at) = gap(text, &first)?;
    let second = part(text, second_at)?;
    let (other_gap, third_at) = self::gap(text, &second)?;
    let third = part(text, third_at)?;
    if text[third.bytes.end..].starts_with(|letter: char| letter.is_ascii_digit())
        || text[third.bytes.end..]
            .starts_with(|letter: char| letter.is_alphabetic() && letter != 'T' && letter != '日' && letter != '일')
    {
        return None;
    }
    let fields = fields([&first, &second, &third], [gap, other_gap])?;
    let [one, two, three] = fields;
    Some(Date {
        parts: [(one, first.bytes), (two, second.bytes), (three, third.bytes)],
    })
}

/// The month of a name: 0 for January.
pub(super) fn month(word: &str) -> Option<usize> {
    MONTH_OF.get(Folded::new(word).as_str()).copied()
}

static MONTH_OF: LazyLock<HashMap<&str, usize>> = LazyLock::new(|| {
    let named = MONTHS.iter().enumerate();
    named
        .flat_map(|(month, names)| names.split_ascii_whitespace().map(move |name| (name, month)))
        .collect()
});

/// A number or month name.
struct Part {
    bytes: Range<usize>,
    /// None for a month name.
    number: Option<u32>,
}

impl Part {
    fn width(&self) -> usize {
        self.bytes.len()
    }

    fn is_day_or_month(&self) -> bool {
        self.width() <= 2 && self.number.is_some_and(|number| (1..=31).contains(&number))
    }

    fn is_year(&self) -> bool {
        self.width() == 4 && self.number.is_some_and(|number| (1800..=2100).contains(&number))
    }
}

fn part(text: &str, start: usize) -> Option<Part> {
    let rest = text.get(start..)?;
    let digits = rest.bytes().take(5).take_while(u8::is_ascii_digit).count();
    if (1..=4).contains(&digits) {
        let number = rest[..digits].parse().ok()?;
        return Some(Part {
            bytes: start..start + digits,
            number: Some(number),
        });
    }
    let letters = rest.find(|letter: char| !letter.is_alphabetic()).unwrap_or(rest.len());
    month(&rest[..letters])?;
    Some(Part {
        bytes: start..start + letters,
        number: None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Dash,
    Slash,
    Dot,
    Words,
}

/// What stands after a part, and where the next begins.
fn gap(text: &str, before: &Part) -> Option<(Mark, usize)> {
    let mut at = before.bytes.end;
    if before.number.is_some() {
        // `4th`, `1er`, `4º`.
        let suffixes = ["st", "nd", "rd", "th", "er", "º", "ª"];
        at += suffixes
            .iter()
            .find(|suffix| {
                text[at..].starts_with(**suffix) && !text[at + suffix.len()..].starts_with(char::is_alphanumeric)
            })
            .map_or(0, |suffix| suffix.len());
    }
    let rest = &text[at..];
    let single = |mark| Some((mark, at + 1));
    match rest.as_bytes() {
        [b'-', ..] => single(Mark::Dash),
        [b'/', ..] => single(Mark::Slash),
        [b'\\', b'/', ..] => Some((Mark::Slash, at + 2)),
        [b'.', next, ..] if *next != b' ' => single(Mark::Dot),
        _ => {
            let marks = [
                "年", "月", "년 ", "월 ", ", ", ". ", " of ", " de ", " del ", " di ", " '", " ",
            ];
            let mark = marks.iter().find(|mark| rest.starts_with(**mark))?;
            Some((Mark::Words, at + mark.len()))
        }
    }
}

/// What each part is, if they make a date.
fn fields(parts: [&Part; 3], gaps: [Mark; 2]) -> Option<[Field; 3]> {
    use Field::{DayOrMonth, MonthName, Year};
    let [one, two, three] = parts;
    match (one.number, two.number, three.number) {
        (Some(_), Some(_), Some(_)) => {
            let agree = gaps[0] == gaps[1];
            let has_a_month = |day: &Part, month: &Part| day.number.min(month.number).is_some_and(|least| least <= 12);
            if !agree {
                None
            } else if one.is_year() && two.is_day_or_month() && three.is_day_or_month() && has_a_month(two, three) {
                Some([Year, DayOrMonth, DayOrMonth])
            } else if one.is_day_or_month() && two.is_day_or_month() && has_a_month(one, two) {
                let is_short = three.width() == 2 && gaps[0] != Mark::Words;
                (three.is_year() || is_short).then_some([DayOrMonth, DayOrMonth, Year])
            } else {
                None
            }
        }
        (None, Some(_), Some(_)) if two.is_day_or_month() && three.is_year() => Some([MonthName, DayOrMonth, Year]),
        (Some(_), None, Some(_)) if one.is_day_or_month() && (three.is_year() || three.width() == 2) => {
            Some([DayOrMonth, MonthName, Year])
        }
        (Some(_), None, Some(_)) if one.is_year() && three.is_day_or_month() => Some([Year, MonthName, DayOrMonth]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> bool {
        read(text, 0).is_some_and(|date| date.end() == text.len())
    }

    #[test]
    fn dates_in_many_hands() {
        for text in [
            "1979-03-04",
            "04/03/1979",
            "4/3/79",
            "21.10.2012",
            "4 March 1979",
            "04-Mar-1979",
            "March 4th, 1979",
            "Mar 4 1979",
            "4. März 1979",
            "1er août 1979",
            "4 de marzo de 1979",
            "4 marzo 1979",
            "3 of May 1980",
            "1979/03/04",
            "23-08-49",
        ] {
            assert!(whole(text), "{text}");
        }
        assert_eq!(read("1979-03-04T00:00:00Z", 0).map(|date| date.end()), Some(10));
        assert_eq!(
            read("1990年5月3日", 0).map(|date| date.parts[2].1.clone()),
            Some(11..12)
        );
    }

    #[test]
    fn other_numbers_are_no_dates() {
        for text in [
            "1979-13-14",
            "2.5.13.4",
            "10.0.19.255",
            "32/01/1979",
            "4 1979",
            "1/2/345",
            "12-34-5678",
            "2012-10-5x",
            "may 2020",
            "99/99/99",
        ] {
            assert!(!whole(text), "{text}");
        }
    }
}
