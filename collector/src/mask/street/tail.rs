//! What follows number and street: unit, district, town, state, postal code, country.

use crate::mask::lexicon::Flags;
use crate::mask::word::{Gap, Page, Shape};

/// The end of an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// Its last word.
    pub(super) last: usize,
    /// A unit, state or postal code was read: what went before is an address.
    pub(super) is_address: bool,
    /// A postal code that nothing else looks like was read.
    pub(super) is_certain: bool,
}

/// Most parts after the street.
const PARTS: usize = 7;

/// What a part says of all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Something,
    Much,
}

/// A part's last word, and what it says.
type Part = (usize, Says);

/// Reads on from the last word of the street.
pub(super) fn read(page: &Page<'_>, last: usize) -> Tail {
    let mut tail = Tail {
        last,
        is_address: false,
        is_certain: false,
    };
    for _ in 0..PARTS {
        let next = tail.last + 1;
        let part = unit(page, next)
            .or_else(|| postal(page, next))
            .or_else(|| town(page, next));
        let Some((end, says)) = part else { break };
        tail.last = end;
        tail.is_address |= says != Says::Nothing;
        tail.is_certain |= says == Says::Much;
    }
    tail
}

/// How a part is linked to the one before: nothing but a space, a comma, a line's end, `/` or `-`.
fn is_linked(page: &Page<'_>, at: usize) -> bool {
    matches!(page.gap(at), Gap::Space | Gap::Comma | Gap::Hyphen)
        || is_next_line(page, at)
        || matches!(
            page.before(at),
            " , " | ",\n" | "., " | ".\n" | " / " | " - " | " – " | " (" | " #" | ", #" | "\n, "
        )
}

/// A line's end, if nothing ends before or after it: a semicolon parts more than lines do.
fn is_next_line(page: &Page<'_>, at: usize) -> bool {
    page.gap(at) == Gap::Line && !page.before(at).contains(';')
}

/// `Suite 804`, `Apt. 3B`, `Depto. 12`, `#5`.
fn unit(page: &Page<'_>, at: usize) -> Option<Part> {
    if !is_linked(page, at) {
        return None;
    }
    if page.before(at).ends_with('#') && is_code(page, at) {
        return Some((at, Says::Something));
    }
    let is_near = matches!(page.gap(at + 1), Gap::Space | Gap::Stop) || page.before(at + 1) == " #";
    if !page.is(at, Flags::UNIT) || !is_near || !is_code(page, at + 1) {
        return None;
    }
    let is_telling = matches!(
        page.folded(at).as_str(),
        "suite" | "ste" | "apt" | "apartment" | "depto" | "apto"
    );
    Some((at + 1, if is_telling { Says::Much } else { Says::Something }))
}

fn is_code(page: &Page<'_>, at: usize) -> bool {
    page.written(at).len() <= 5 && matches!(page.shape(at), Some(Shape::Number | Shape::Code | Shape::Initial))
}

/// A postal code, with the state before it.
fn postal(page: &Page<'_>, at: usize) -> Option<Part> {
    if !is_linked(page, at) {
        return None;
    }
    let has_state = is_state(page, at);
    let code_at = at + usize::from(has_state);
    let is_near = !has_state || matches!(page.gap(code_at), Gap::Space | Gap::Comma);
    match code_end(page, code_at).filter(|_| is_near) {
        // Of four to eight digits alone only a state makes a postal code.
        Some(end) if has_state || end > code_at => Some((end, Says::Much)),
        Some(end) => Some((end, Says::Something)),
        // `QLD` alone, before more or at the end.
        None => (has_state && page.gap(at) != Gap::Space).then_some((at, Says::Something)),
    }
}

/// Two to five capitals: `PA`, `NSW`, `CAMP`.
fn is_state(page: &Page<'_>, at: usize) -> bool {
    let is_cue = page.is(at, Flags::RECORD.or(Flags::RECORD_OF).or(Flags::BIRTH));
    page.shape(at) == Some(Shape::Upper) && (2..=5).contains(&page.written(at).len()) && !is_cue
}

/// The last word of a postal code that begins at `at`.
fn code_end(page: &Page<'_>, at: usize) -> Option<usize> {
    let (written, next) = (page.written(at).as_bytes(), page.written(at + 1).as_bytes());
    let gap = page.gap(at + 1);
    let is_digits = |word: &[u8], least: usize, most: usize| {
        (least..=most).contains(&word.len()) && word.iter().all(u8::is_ascii_digit)
    };
    let is_capitals = |word: &[u8]| word.len() == 2 && word.iter().all(u8::is_ascii_uppercase);
    // `SK4 0LE`, `K1A 0B1`: letter and digit in each half.
    let has_both = |word: &[u8]| word.iter().any(u8::is_ascii_digit) && word.iter().any(u8::is_ascii_uppercase);
    let is_british = (2..=4).contains(&written.len())
        && written[0].is_ascii_uppercase()
        && has_both(written)
        && next.len() == 3
        && has_both(next);
    // `1234 AB`.
    let is_dutch = is_digits(written, 4, 4) && is_capitals(next);
    // `123 45`.
    let is_nordic = is_digits(written, 3, 3) && is_digits(next, 2, 3);
    // `12345-6789`, `01234-567`, `00-950`.
    let is_hyphened = is_digits(written, 2, 5) && is_digits(next, 3, 4);
    if (gap == Gap::Space && (is_british || is_dutch || is_nordic)) || (gap == Gap::Hyphen && is_hyphened) {
        return Some(at + 1);
    }
    let is_dutch_in_one = written
        .split_at_checked(4)
        .is_some_and(|(digits, letters)| is_digits(digits, 4, 4) && is_capitals(letters));
    (is_dutch_in_one || is_digits(written, 4, 8)).then_some(at)
}

/// One to six capitalised words; then a comma, a line's end, a code or the end of all.
fn town(page: &Page<'_>, at: usize) -> Option<Part> {
    let is_number = |index: usize| matches!(page.shape(index), Some(Shape::Number | Shape::Code));
    let follows_code = at > 1 && (is_number(at - 1) || (page.written(at - 1).len() == 2 && is_number(at - 2)));
    let may_begin = page.gap(at) == Gap::Comma
        || is_next_line(page, at)
        || matches!(page.before(at), " , " | ",\n" | "., " | " / " | "\n, ")
        || (page.gap(at) == Gap::Space && follows_code);
    if !may_begin || !matches!(page.shape(at), Some(Shape::Title | Shape::Upper)) {
        return None;
    }
    let last = town_end(page, at);
    let next = last + 1;
    let has_code = code_end(page, next).is_some() || is_state(page, next);
    let closes = match page.gap(next) {
        Gap::Space => has_code,
        Gap::Hyphen | Gap::Comma | Gap::Line | Gap::Stop => true,
        _ => {
            let after = page.after(last);
            after.is_empty() || after.starts_with(['.', '"', ')', '<', ';', '\\', ' ', '\n', ',', '!', '?', '|', '\''])
        }
    };
    // A new line that begins with a greeting or a label, or that is followed by prose, is no town.
    let is_town_line = next >= page.len() || has_code || matches!(page.gap(next), Gap::Comma | Gap::Line);
    let is_other_line = page.gap(at) == Gap::Line
        && (page.is(at, Flags::TITLE)
            || page.after(last).starts_with(':')
            || !is_town_line
            || (page.is(at, Flags::WORD) && !has_code));
    (closes && !is_other_line).then_some((last, Says::Nothing))
}

fn town_end(page: &Page<'_>, at: usize) -> usize {
    let mut end = at;
    for index in at + 1..at + 6 {
        let is_linked = match page.gap(index) {
            Gap::Space | Gap::Hyphen | Gap::Apostrophe => true,
            Gap::Stop => page.written(index - 1).len() <= 3,
            _ => false,
        };
        let is_word = match page.shape(index) {
            Some(Shape::Title) => true,
            Some(Shape::Lower) => is_town_particle(page, index),
            Some(Shape::Code) => page.written(index).ends_with(['ª', 'º']),
            _ => false,
        };
        if !is_linked || !is_word {
            break;
        }
        let closes_town = page.shape(index) != Some(Shape::Lower) || ends_town(page, index);
        if closes_town {
            end = index;
        }
    }
    end
}

fn is_town_particle(page: &Page<'_>, at: usize) -> bool {
    page.is(at, Flags::PARTICLE)
        || ends_town(page, at)
        || matches!(
            page.folded(at).as_str(),
            "am" | "an" | "im" | "ob" | "bei" | "sur" | "sous" | "les" | "los" | "las" | "in" | "upon" | "on" | "nad"
        )
}

/// `los altos`, `los bajos`, `de la montaña`.
fn ends_town(page: &Page<'_>, at: usize) -> bool {
    matches!(page.folded(at).as_str(), "altos" | "bajos" | "montana")
}
