//! Number and street, in any of the orders in which they are written.

use super::number::{
    has_number_after, is_house_number, is_number_mark, is_year_like, number_behind, numbers_end, with_unit,
};
use crate::mask::date;
use crate::mask::lexicon::Flags;
use crate::mask::word::{Gap, Page, Shape};

/// Most words of a street's name.
const NAME_WORDS: usize = 5;

/// Ends of one-word street names: `Lindenstraße 5`. They need no more than a number.
const ENDS: &[&str] = &[
    "strasse", "straat", "gasse", "platz", "plein", "gracht", "gatan", "vagen", "veien", "allee", "chaussee", "weg",
    "steig", "ufer", "damm",
];
/// These need a postal code after it.
const ENDS_TOO: &[&str] = &[
    "str", "ring", "laan", "kade", "dijk", "singel", "steeg", "dreef", "gata", "gade", "vej", "alle", "katu", "tie",
    "kuja", "polku", "grand", "hof", "markt", "utca", "ut", "berg", "pfad", "stieg", "twiete", "wall",
];

/// Any kind of street.
pub(in super::super) const ANY_KIND: Flags = Flags::STREET_AFTER
    .or(Flags::STREET_AFTER_TOO)
    .or(Flags::STREET_BEFORE)
    .or(Flags::STREET_BEFORE_TOO)
    .or(Flags::STREET_BEFORE_NUMBER);

/// Number and street, in words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Core {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) needs: Need,
}

/// What besides number and street makes an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// A unit, state or postal code, or a cue before it.
    More,
    /// A state with its postal code or the like, or a cue right before it: no kind of street was named.
    Much,
}

impl Need {
    fn nothing_if(is_sure: bool) -> Need {
        if is_sure { Need::Nothing } else { Need::More }
    }
}

/// The number and street around a word that may be part of them.
pub(super) fn at(page: &Page<'_>, index: usize) -> Option<Core> {
    let word = page.word(index)?;
    if word.flags.any(ANY_KIND) {
        return after_its_name(page, index)
            .or_else(|| before_its_number(page, index))
            .or_else(|| before_its_name(page, index));
    }
    match word.shape {
        Shape::Title if has_number_after(page, index) => compound(page, index).or_else(|| any_name(page, index)),
        Shape::Number | Shape::Code => any_kind(page, index),
        Shape::Initial => house_number_mark(page, index)
            .or_else(|| post_box(page, index))
            .or_else(|| one_letter_kind(page, index)),
        Shape::Upper => military(page, index).or_else(|| post_box(page, index)),
        _ => None,
    }
}

fn is_capital(page: &Page<'_>, index: usize) -> bool {
    matches!(page.shape(index), Some(Shape::Title | Shape::Upper))
}

/// `12 Elm Street`, `Flat 3, Elm Road`, `74/2 Elm Chowk`.
fn after_its_name(page: &Page<'_>, kind_at: usize) -> Option<Core> {
    let is_sure_kind = page.is(kind_at, Flags::STREET_AFTER);
    if !is_capital(page, kind_at) || !(is_sure_kind || page.is(kind_at, Flags::STREET_AFTER_TOO)) {
        return None;
    }
    // `Oak Grove Avenue`: the last word is the kind.
    let next = kind_at + 1;
    let has_a_kind_after = page.gap(next) == Gap::Space && is_capital(page, next) && page.is(next, Flags::STREET_AFTER);
    if has_a_kind_after {
        return None;
    }
    let mut at = kind_at;
    loop {
        let previous = at.checked_sub(1)?;
        let is_number_gap = matches!(page.gap(at), Gap::Space | Gap::Comma | Gap::Line);
        if at < kind_at && is_number_gap && is_house_number(page, previous) {
            let first = with_unit(page, previous);
            let is_near = page.gap(at) == Gap::Space || first < previous;
            return Some(Core {
                first,
                last: with_direction(page, kind_at),
                needs: Need::nothing_if(is_sure_kind && is_near && !is_year_like(page, previous)),
            });
        }
        let is_linked = match page.gap(at) {
            Gap::Space | Gap::Hyphen | Gap::Apostrophe => true,
            Gap::Stop => page.written(previous).len() <= 3,
            _ => false,
        };
        let is_name = match page.shape(previous)? {
            Shape::Title | Shape::Upper | Shape::Initial => true,
            // `5th Avenue`.
            Shape::Code => page.written(previous).ends_with(['h', 't', 'd']),
            Shape::Lower => page.is(previous, Flags::PARTICLE),
            Shape::Number => false,
        };
        if !is_linked || !is_name || kind_at - previous > NAME_WORDS {
            return None;
        }
        at = previous;
    }
}

/// `North`, `NW` after the kind of street.
fn with_direction(page: &Page<'_>, last: usize) -> usize {
    let is_direction = page.gap(last + 1) == Gap::Space
        && matches!(
            page.written(last + 1),
            "N" | "S" | "E" | "W" | "NW" | "NE" | "SW" | "SE" | "North" | "South" | "East" | "West"
        );
    last + usize::from(is_direction)
}

/// `Lange Straße 5`, `Anna-Linden-Platz 5`, `Ady Endre utca 5`.
fn before_its_number(page: &Page<'_>, kind_at: usize) -> Option<Core> {
    let is_hungarian = matches!(
        page.folded(kind_at).as_str(),
        "utca" | "ut" | "utja" | "ter" | "tere" | "korut"
    );
    let may_be = page.is(kind_at, Flags::STREET_BEFORE_NUMBER) && (is_capital(page, kind_at) || is_hungarian);
    if !may_be || !has_number_after(page, kind_at) {
        return None;
    }
    let mut first = kind_at;
    while first > 0
        && matches!(page.gap(first), Gap::Hyphen | Gap::Space)
        && page.shape(first - 1) == Some(Shape::Title)
        && kind_at - first < NAME_WORDS
    {
        let is_apart = page.gap(first) == Gap::Space;
        first -= 1;
        // Of words apart only the one before the kind is surely the name's.
        if is_apart {
            break;
        }
    }
    let is_sure = page.gap(kind_at) == Gap::Hyphen || ENDS.contains(&page.folded(kind_at).as_str());
    (first < kind_at).then(|| Core {
        first,
        last: numbers_end(page, kind_at + 1),
        needs: Need::nothing_if(is_sure && !is_year_like(page, kind_at + 1)),
    })
}

/// `12, rue Elm`, `Calle Elm 12`, `rue Elm, 75001 Paris`.
fn before_its_name(page: &Page<'_>, kind_at: usize) -> Option<Core> {
    let is_sure_kind = page.is(kind_at, Flags::STREET_BEFORE);
    let may_be_lower = || matches!(page.folded(kind_at).as_str(), "place" | "route" | "cours" | "passage");
    let may_be = page.is(kind_at, Flags::STREET_BEFORE_TOO) && (is_capital(page, kind_at) || may_be_lower());
    if !is_sure_kind && !may_be {
        return None;
    }
    let name_last = street_name(page, kind_at)?;
    let number_before = kind_at.checked_sub(1).filter(|previous| {
        is_house_number(page, *previous) && matches!(page.gap(kind_at), Gap::Space | Gap::Comma | Gap::Line)
    });
    if let Some(number) = number_before {
        return Some(Core {
            first: with_unit(page, number),
            last: name_last,
            needs: Need::nothing_if(is_sure_kind && !is_year_like(page, number)),
        });
    }
    let number = number_behind(page, name_last);
    Some(Core {
        first: kind_at,
        last: number.unwrap_or(name_last),
        needs: Need::nothing_if(is_sure_kind && number.is_some()),
    })
}

/// The last word of the street's name after its kind: capitalised words and particles.
fn street_name(page: &Page<'_>, kind_at: usize) -> Option<usize> {
    let mut last = None;
    for index in kind_at + 1..=kind_at + NAME_WORDS {
        let is_linked = match page.gap(index) {
            Gap::Space | Gap::Hyphen | Gap::Apostrophe => true,
            Gap::Stop => page.written(index - 1).len() <= 3,
            _ => false,
        };
        if !is_linked {
            break;
        }
        match page.shape(index) {
            Some(Shape::Title | Shape::Upper) if is_number_mark(page, index) => break,
            Some(Shape::Initial) if page.before(index + 1) == "/" => break,
            Some(Shape::Title | Shape::Upper | Shape::Initial) => last = Some(index),
            Some(Shape::Lower) if page.is(index, Flags::PARTICLE) || page.written(index).len() <= 3 => {}
            _ => break,
        }
    }
    last
}

/// `Lindenstraße 5`, `Christian-Lindenplatz 5a`.
fn compound(page: &Page<'_>, index: usize) -> Option<Core> {
    let folded = page.folded(index);
    let word = folded.as_str();
    let ends = |list: &[&str]| list.iter().any(|end| word.len() > end.len() + 2 && word.ends_with(end));
    let is_sure_end = ends(ENDS);
    if !is_sure_end && !ends(ENDS_TOO) {
        return None;
    }
    let mut first = index;
    while first > 0 && page.gap(first) == Gap::Hyphen && page.shape(first - 1) == Some(Shape::Title) {
        first -= 1;
    }
    let is_known_word = page.is(index, Flags::WORD.or(Flags::GIVEN).or(Flags::FAMILY));
    Some(Core {
        first,
        last: numbers_end(page, index + 1),
        needs: Need::nothing_if(is_sure_end && !is_known_word && !is_year_like(page, index + 1)),
    })
}

/// `H.No. 947, Elm`: a mark of its own before the number, and a name after it.
fn house_number_mark(page: &Page<'_>, index: usize) -> Option<Core> {
    let is_mark = page.written(index) == "H"
        && matches!(page.gap(index + 1), Gap::Dot | Gap::Stop | Gap::Space)
        && page.folded(index + 1).as_str() == "no";
    if !is_mark || !is_house_number(page, index + 2) {
        return None;
    }
    let mut last = numbers_end(page, index + 2);
    let is_name = |index: usize| page.shape(index) == Some(Shape::Title);
    if matches!(page.gap(last + 1), Gap::Comma | Gap::Line | Gap::Space) && is_name(last + 1) {
        last += 1;
        while page.gap(last + 1) == Gap::Space && is_name(last + 1) {
            last += 1;
        }
    }
    Some(Core {
        first: index,
        last,
        needs: Need::Nothing,
    })
}

/// `C. Olmo 12`, `R. das Flores, 45`: the kind of street in one letter.
fn one_letter_kind(page: &Page<'_>, index: usize) -> Option<Core> {
    let is_kind = matches!(page.written(index), "C" | "R" | "V" | "P") && page.gap(index + 1) == Gap::Stop;
    let name_last = is_kind.then(|| street_name(page, index)).flatten()?;
    Some(Core {
        first: index,
        last: number_behind(page, name_last)?,
        needs: Need::More,
    })
}

/// `214 Pavlou Drandaki`: a number and a name, with no kind of street.
fn any_kind(page: &Page<'_>, index: usize) -> Option<Core> {
    let is_named = page.gap(index + 1) == Gap::Space
        && page.shape(index + 1) == Some(Shape::Title)
        && !page.is(index + 1, Flags::PLACE);
    if !is_named || !is_house_number(page, index) || date::read(page.text, page.start(index)).is_some() {
        return None;
    }
    let mut last = index + 1;
    while last < index + 4 && page.gap(last + 1) == Gap::Space && page.shape(last + 1) == Some(Shape::Title) {
        last += 1;
    }
    if has_number_after(page, last) {
        last = numbers_end(page, last + 1);
    }
    Some(Core {
        first: with_unit(page, index),
        last,
        needs: Need::Much,
    })
}

/// `Golfska 78`, `Nad Golfska 78`: a name and a number, with no kind of street.
fn any_name(page: &Page<'_>, index: usize) -> Option<Core> {
    let mut first = index;
    while first > 0
        && index - first < 3
        && page.gap(first) == Gap::Space
        && matches!(page.shape(first - 1), Some(Shape::Title | Shape::Initial))
    {
        first -= 1;
    }
    let is_named = !page.is(index, Flags::WORD.or(Flags::PLACE)) && page.gap(first) != Gap::Hyphen;
    is_named.then(|| Core {
        first,
        last: numbers_end(page, index + 1),
        needs: Need::Much,
    })
}

/// `PO Box 12`, `P.O. Box 12`.
fn post_box(page: &Page<'_>, index: usize) -> Option<Core> {
    let box_at = match page.written(index) {
        "PO" => index + 1,
        "P" if page.written(index + 1) == "O" => index + 2,
        _ => return None,
    };
    let is_box = page.folded(box_at).as_str() == "box" && page.gap(box_at + 1) == Gap::Space;
    (is_box && is_house_number(page, box_at + 1)).then_some(Core {
        first: index,
        last: box_at + 1,
        needs: Need::Nothing,
    })
}

/// `Unit 12 Box 34, APO AE 09012`, `USS Elm, FPO AP 96601`: from the military post office back to its line's start.
fn military(page: &Page<'_>, index: usize) -> Option<Core> {
    let is_office = matches!(page.written(index), "APO" | "FPO" | "DPO")
        && matches!(page.written(index + 1), "AA" | "AE" | "AP")
        && page.shape(index + 2) == Some(Shape::Number)
        && page.written(index + 2).len() == 5;
    if !is_office {
        return None;
    }
    let mut first = index;
    while first > 0 && index - first < 5 && matches!(page.gap(first), Gap::Space | Gap::Comma | Gap::Line) {
        let is_part = is_capital(page, first - 1) || is_house_number(page, first - 1);
        let is_new_line = page.gap(first) == Gap::Line && first < index;
        if !is_part || is_new_line {
            break;
        }
        first -= 1;
        if matches!(
            page.written(first),
            "Unit" | "PSC" | "CMR" | "USS" | "USNS" | "USNV" | "USCGC"
        ) {
            break;
        }
    }
    Some(Core {
        first,
        last: index + 2,
        needs: Need::Nothing,
    })
}
