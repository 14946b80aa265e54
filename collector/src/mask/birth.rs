//! Dates of birth: a date is one where the words or the label around it say so.
//!
//! Other dates stay: what happened when is no secret by itself.

use super::date::{self, Date};
use super::hit::Hit;
use super::kind::Kind;
use super::letters::Letters;
use super::lexicon::Flags;
use super::word::{Gap, Page, Role, Shape};

/// How far after its cue a date may begin, in words and bytes.
const REACH: usize = 10;
const REACH_BYTES: usize = 96;

/// Finds the dates of birth on a page; `label` is what the whole text stands under.
pub(super) fn find(page: &Page<'_>, label: &str, hits: &mut Vec<Hit>) {
    let may_be_labelled = !label.is_empty() && page.len() <= 8 && page.has_digits();
    if may_be_labelled && Letters::of(label).hold_any(&BIRTHS) {
        hits.extend(whole(page).filter(|_| names_a_birth(label)));
    }
    for index in page.places(Role::BIRTH) {
        let is_cue = page.is(index, Flags::BIRTH) || is_abbreviated(page, index);
        if is_cue && !is_negation(page, index) {
            hits.extend(after(page, index).or_else(|| before(page, index)));
        }
    }
}

/// What a label of a date of birth says, without its signs.
const BIRTH_ITSELF: &str = "born";
const BIRTH_AT_ITS_END: [&str; 2] = ["dob", "bday"];
const BIRTH_ANYWHERE: [&str; 11] = [
    "birth",
    "geburt",
    "naissance",
    "nacimiento",
    "nascimento",
    "nascita",
    "geboorte",
    "生年月日",
    "出生",
    "생년월일",
    "рождения",
];
/// The letters of each.
const BIRTHS: [Letters; 14] = Letters::of_all([&[BIRTH_ITSELF], &BIRTH_AT_ITS_END, &BIRTH_ANYWHERE]);

/// `birthDate`, `patient_dob`, `date of birth`.
pub(super) fn names_a_birth(label: &str) -> bool {
    let squeezed: String = label
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .take(48)
        .collect();
    let is_place = squeezed.contains("place") || squeezed.contains("city") || squeezed.contains("country");
    !is_place
        && (squeezed == BIRTH_ITSELF
            || BIRTH_AT_ITS_END.iter().any(|cue| squeezed.ends_with(cue))
            || BIRTH_ANYWHERE.iter().any(|cue| squeezed.contains(cue)))
}

/// A text that is a date, or one in eight digits.
fn whole(page: &Page<'_>) -> Option<Hit> {
    let first = page
        .word(0)
        .filter(|word| matches!(word.shape, Shape::Number | Shape::Title | Shape::Lower | Shape::Code))?;
    let is_compact = first.shape == Shape::Number && page.len() == 1 && is_compact_date(page.written(0));
    if is_compact {
        return Some(Hit::by_context(page.start(0), page.end(0), Kind::DateOfBirth));
    }
    let date = date::read(page.text, page.start(0))?;
    Some(hit(page.start(0), &date))
}

fn is_compact_date(digits: &str) -> bool {
    let (Some(year), Some(rest)) = (digits.get(..4), digits.get(4..)) else {
        return false;
    };
    digits.len() == 8 && ("1900".."2100").contains(&year) && ("0101".."1232").contains(&rest)
}

fn hit(start: usize, date: &Date) -> Hit {
    Hit::by_context(start, date.end(), Kind::DateOfBirth)
}

/// `D.O.B.`: the first of three initials.
fn is_abbreviated(page: &Page<'_>, index: usize) -> bool {
    page.shape(index) == Some(Shape::Initial)
        && page.written(index) == "D"
        && page.gap(index + 1) == Gap::Dot
        && page.written(index + 1) == "O"
        && page.gap(index + 2) == Gap::Dot
        && page.written(index + 2) == "B"
}

/// `né le`, `née en` are cues; `ne` by itself denies.
fn is_negation(page: &Page<'_>, index: usize) -> bool {
    matches!(page.folded(index).as_str(), "ne" | "nee") && !matches!(page.folded(index + 1).as_str(), "le" | "en" | "e")
}

/// The first date after a cue, in its sentence.
fn after(page: &Page<'_>, cue: usize) -> Option<Hit> {
    let limit = page.end(cue) + REACH_BYTES;
    let mut lines = 0;
    for index in cue + 1..page.len().min(cue + 1 + REACH) {
        lines += usize::from(page.gap(index) == Gap::Line);
        let is_over = page.before(index).contains(['!', '?', ';', '|', '}'])
            || lines > 1
            || page.start(index) > limit
            || (page.gap(index) == Gap::Stop && index > cue + 4);
        if is_over {
            return None;
        }
        if may_begin_a_date(page, index)
            && let Some(date) = date::read(page.text, page.start(index))
        {
            return Some(hit(page.start(index), &date));
        }
        if index == cue + 1 && page.shape(index) == Some(Shape::Number) && is_compact_date(page.written(index)) {
            return Some(Hit::by_context(page.start(index), page.end(index), Kind::DateOfBirth));
        }
    }
    None
}

/// A date right before a cue: `04/03/1979 (DOB)`, `… is my birthday`.
fn before(page: &Page<'_>, cue: usize) -> Option<Hit> {
    let mut last = cue;
    for _ in 0..6 {
        if matches!(page.gap(last), Gap::Line | Gap::Stop | Gap::Start) {
            return None;
        }
        last -= 1;
        if !page.is(last, Flags::LINK) {
            break;
        }
    }
    (last.saturating_sub(4)..=last).find_map(|index| {
        let date = may_begin_a_date(page, index)
            .then(|| date::read(page.text, page.start(index)))
            .flatten()?;
        (date.end() == page.end(last) || date.end() + 1 == page.end(last)).then(|| hit(page.start(index), &date))
    })
}

fn may_begin_a_date(page: &Page<'_>, index: usize) -> bool {
    let is_tail = matches!(page.gap(index), Gap::Hyphen | Gap::Dot) || page.before(index).ends_with('/');
    match page.shape(index) {
        Some(Shape::Number) => !is_tail && page.written(index).len() <= 4,
        Some(Shape::Code) => !is_tail && page.written(index).starts_with(|letter: char| letter.is_ascii_digit()),
        Some(Shape::Title | Shape::Lower | Shape::Upper) => date::month(page.written(index)).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::lexicon::Lexicon;

    fn found<'t>(text: &'t str, label: &str) -> Option<&'t str> {
        let mut hits = Vec::new();
        find(&Page::new(text, Lexicon::shared()), label, &mut hits);
        hits.first().map(|hit| &text[hit.start..hit.end])
    }

    #[test]
    fn the_words_around_a_date_say_what_it_is() {
        for (text, date) in [
            ("Her DOB: 04/03/1979.", "04/03/1979"),
            ("he was born in Lyon on 4 March 1979", "4 March 1979"),
            ("D.O.B. 4-Mar-1979", "4-Mar-1979"),
            ("geboren am 21.10.2012 in Ulm", "21.10.2012"),
            ("né le 1er août 1979", "1er août 1979"),
            ("\"date_of_birth\": \"1979-03-04\"", "1979-03-04"),
            ("1979-03-04 (DOB)", "1979-03-04"),
            ("March 4, 1979 is my birthday", "March 4, 1979"),
            ("Date of birth:\n1979-03-04", "1979-03-04"),
            ("fecha de nacimiento: 4 de marzo de 1979", "4 de marzo de 1979"),
        ] {
            assert_eq!(found(text, ""), Some(date), "{text}");
        }
        assert_eq!(found("1979-03-04", "birthDate"), Some("1979-03-04"));
        assert_eq!(found("19790304", "patient_dob"), Some("19790304"));
    }

    #[test]
    fn other_dates_stay() {
        for text in [
            "shipped on 2024-03-04",
            "born in 1979",
            "il ne sait 04/03/1979",
            "the birth of a nation; released 2015-02-08",
            "Happy birthday! See you on 2024-05-03",
        ] {
            assert_eq!(found(text, ""), None, "{text}");
        }
        assert_eq!(found("2024-03-04", "created_at"), None);
    }
}
