//! House numbers: `12`, `74r`, `3/7`, `53-55`, `Flat 3`, `Nr. 12`, `S/N`.

use crate::mask::lexicon::Flags;
use crate::mask::word::{Gap, Page, Shape};

/// Up to six digits, with a letter perhaps; no decimals, no versions, no amounts, no times.
pub(super) fn is_house_number(page: &Page<'_>, index: usize) -> bool {
    let written = page.written(index);
    let digits = written.bytes().filter(u8::is_ascii_digit).count();
    let letters = written.len() - digits;
    let is_number = match page.shape(index) {
        Some(Shape::Number) => digits <= 6,
        Some(Shape::Code) => digits > 0 && digits <= 5 && letters <= 1 && written.is_ascii(),
        _ => false,
    };
    if !is_number || page.gap(index) == Gap::Dot {
        return false;
    }
    let before = page.before(index);
    let is_time = before.ends_with(':') && index > 0 && page.shape(index - 1) == Some(Shape::Number);
    !is_time && !before.ends_with(['$', '€', '£', '#', '%', '@', '_'])
}

/// `2024`: as likely a year.
pub(super) fn is_year_like(page: &Page<'_>, index: usize) -> bool {
    let written = page.written(index);
    written.len() == 4 && (written.starts_with("19") || written.starts_with("20"))
}

/// A house number follows: `Straße 5`, `str. 5`.
pub(super) fn has_number_after(page: &Page<'_>, index: usize) -> bool {
    matches!(page.gap(index + 1), Gap::Space | Gap::Stop) && is_house_number(page, index + 1)
}

/// The first word of a house number that ends at `number`: `3/7`, `12-14`, `Flat 3`, `Apt. 3 4`.
pub(super) fn with_unit(page: &Page<'_>, number: usize) -> usize {
    let mut first = number;
    for _ in 0..2 {
        let is_joined = page.gap(first) == Gap::Hyphen || page.before(first) == "/";
        if first == 0 || !is_joined || !is_house_number(page, first - 1) {
            break;
        }
        first -= 1;
    }
    let is_near = |index: usize| {
        matches!(page.gap(index), Gap::Space | Gap::Stop | Gap::Comma | Gap::Line) || page.before(index) == " #"
    };
    if first > 0 && is_near(first) && page.is(first - 1, Flags::UNIT) {
        first -= 1;
        // `H. No. 12`.
        let is_house_mark =
            first > 0 && page.written(first - 1) == "H" && matches!(page.gap(first), Gap::Dot | Gap::Stop);
        return first - usize::from(is_house_mark);
    }
    let has_unit_number = first > 1
        && is_near(first)
        && is_house_number(page, first - 1)
        && is_near(first - 1)
        && page.is(first - 2, Flags::UNIT);
    if has_unit_number { first - 2 } else { first }
}

/// The last of the numbers from `number` on: `53-55`, `588 217`, `8/2`.
pub(super) fn numbers_end(page: &Page<'_>, number: usize) -> usize {
    let mut last = number;
    let is_joined = |index: usize| matches!(page.gap(index), Gap::Hyphen | Gap::Space) || page.before(index) == "/";
    while last < number + 2 && is_house_number(page, last + 1) && is_joined(last + 1) {
        last += 1;
    }
    last
}

/// The last word of a house number after a street's name: `12`, `, 12`, `Nr. 12`, `S/N`.
pub(super) fn number_behind(page: &Page<'_>, last: usize) -> Option<usize> {
    let next = last + 1;
    if !matches!(page.gap(next), Gap::Space | Gap::Comma) {
        return None;
    }
    let is_none = page.written(next).eq_ignore_ascii_case("s")
        && page.before(next + 1) == "/"
        && page.written(next + 1).eq_ignore_ascii_case("n");
    if is_none {
        return Some(next + 1);
    }
    let is_mark =
        is_number_mark(page, next) && matches!(page.gap(next + 1), Gap::Stop | Gap::Space | Gap::Dot | Gap::Other);
    let number = next + usize::from(is_mark);
    is_house_number(page, number).then(|| numbers_end(page, number))
}

/// `Nr`, `No`, `nº`.
pub(super) fn is_number_mark(page: &Page<'_>, index: usize) -> bool {
    matches!(page.folded(index).as_str(), "nr" | "no" | "num" | "n" | "c" | "nº")
}
