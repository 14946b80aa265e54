//! Medical record numbers: a number is one where the words or the label before it say so, or its own prefix.
//!
//! Numbers of orders, tickets and rows stay, whatever they look like.

use super::hit::Hit;
use super::kind::Kind;
use super::letters::Letters;
use super::lexicon::Flags;
use super::word::{Gap, Page, Role, Shape};

/// Finds the record numbers on a page; `label` is what the whole text stands under.
pub(super) fn find(page: &Page<'_>, label: &str, hits: &mut Vec<Hit>) {
    let may_be_labelled = !label.is_empty() && page.len() <= 4 && page.has_digits();
    if may_be_labelled && Letters::of(label).hold_any(&RECORDS) {
        let is_all = |hit: &Hit| hit.end == page.end(page.len() - 1);
        hits.extend(number_at(page, 0).filter(|hit| is_all(hit) && names_a_record(label)));
    }
    for index in page.places(Role::RECORD) {
        if page.is(index, Flags::RECORD.or(Flags::RECORD_OF)) {
            hits.extend(cue_end(page, index).and_then(|end| after(page, end)));
        } else if page.shape(index) == Some(Shape::Code) && is_prefixed(page.written(index)) {
            hits.push(Hit::by_context(page.start(index), page.end(index), Kind::Mrn));
        }
    }
}

/// `MRN0042317` without a cue.
fn is_prefixed(word: &str) -> bool {
    let digits = word.strip_prefix("MRN").unwrap_or_default();
    (5..=12).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a label of a record number says, without its signs.
const RECORD_AT_ITS_END: &str = "mrn";
const RECORD_ANYWHERE: [&str; 10] = [
    "medicalrecord",
    "healthrecord",
    "patientid",
    "patientno",
    "patientnumber",
    "hospitalnumber",
    "hospitalid",
    "chartno",
    "chartnumber",
    "mrnumber",
];
/// The letters of each.
const RECORDS: [Letters; 11] = Letters::of_all([&[RECORD_AT_ITS_END], &RECORD_ANYWHERE]);

/// `mrn`, `medicalRecordNumber`, `patient_id`.
pub(super) fn names_a_record(label: &str) -> bool {
    let squeezed: String = label
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .take(48)
        .collect();
    squeezed.ends_with(RECORD_AT_ITS_END) || RECORD_ANYWHERE.iter().any(|word| squeezed.contains(word))
}

/// The last word of a cue that begins at `index`.
fn cue_end(page: &Page<'_>, index: usize) -> Option<usize> {
    if page.is(index, Flags::RECORD) {
        return Some(index);
    }
    let is_joined =
        |at: usize| matches!(page.gap(at), Gap::Space | Gap::Hyphen | Gap::Apostrophe) || page.before(at) == "_";
    // `medical record number`, `patient's chart no`, `hospital no`.
    let mut at = index + 1;
    if page.gap(at) == Gap::Apostrophe && page.written(at) == "s" {
        at += 1;
    }
    if is_joined(at) && page.is(at, Flags::FILE) {
        let has_number = is_joined(at + 1) && page.is(at + 1, Flags::NUMBER);
        return Some(at + usize::from(has_number));
    }
    if is_joined(at) && page.is(at, Flags::NUMBER) {
        return Some(at);
    }
    // `historia clínica`, `dossier médical`.
    (index > 0 && page.gap(index) == Gap::Space && page.is(index - 1, Flags::FILE)).then_some(index)
}

/// The number after a cue, a few link words aside.
fn after(page: &Page<'_>, cue: usize) -> Option<Hit> {
    for index in cue + 1..page.len().min(cue + 6) {
        let gap = page.before(index);
        if gap.len() > 8 || gap.contains([';', '|', ',']) && !gap.contains(':') {
            return None;
        }
        if let Some(hit) = number_at(page, index) {
            return Some(hit);
        }
        let is_link = page.is(
            index,
            Flags::LINK
                .or(Flags::NUMBER)
                .or(Flags::FILE)
                .or(Flags::RECORD)
                .or(Flags::RECORD_OF),
        );
        if !is_link {
            return None;
        }
    }
    None
}

/// Up to four letters and five to twelve digits, with hyphens between groups.
fn number_at(page: &Page<'_>, first: usize) -> Option<Hit> {
    let mut last = first;
    while matches!(page.gap(last + 1), Gap::Hyphen)
        && page
            .shape(last + 1)
            .is_some_and(|shape| matches!(shape, Shape::Number | Shape::Code))
        && last < first + 3
    {
        last += 1;
    }
    let written = page.text.get(page.start(first)..page.end(last))?;
    let letters = written.bytes().filter(u8::is_ascii_alphabetic).count();
    let digits = written.bytes().filter(u8::is_ascii_digit).count();
    let is_number = (4..=12).contains(&digits) && letters <= 5 && written.is_ascii();
    let is_date = || super::date::read(page.text, page.start(first)).is_some();
    let goes_on = page.gap(last + 1) == Gap::Dot && page.shape(last + 1) == Some(Shape::Number);
    (is_number && !goes_on && !is_date()).then(|| Hit::by_context(page.start(first), page.end(last), Kind::Mrn))
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
    fn the_words_before_a_number_say_what_it_is() {
        for (text, number) in [
            ("MRN: 0042317.", "0042317"),
            ("mrn 134-21-981, seen", "134-21-981"),
            ("medical record number is H661021583", "H661021583"),
            ("Patient ID 00-42317", "00-42317"),
            ("the patient's chart no. 4231798", "4231798"),
            ("historia clínica: 4231798", "4231798"),
            ("see MRN93799577 now", "MRN93799577"),
            ("MRN#4231798", "4231798"),
        ] {
            assert_eq!(found(text, ""), Some(number), "{text}");
        }
        assert_eq!(found("4231798", "medicalRecordNumber"), Some("4231798"));
    }

    #[test]
    fn other_numbers_stay() {
        for text in [
            "order 4231798",
            "record number 4231798 of the table",
            "the patient waited 45 minutes",
            "patient, order 4231798",
            "health 100",
        ] {
            assert_eq!(found(text, ""), None, "{text}");
        }
        assert_eq!(found("4231798", "order_id"), None);
    }
}
