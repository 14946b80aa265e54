//! The words that can make up one name: capitals, initials, particles, `Lee, Ann`.
//!
//! Reads on from a first word as far as a name can go; how much that weighs is for `weight`.

use crate::mask::lexicon::Flags;
use crate::mask::word::{Gap, Page, Shape};

/// Longest name, in words.
const WORDS: usize = 7;

pub(in super::super) const NAME: Flags = Flags::GIVEN.or(Flags::FAMILY);
/// What a word is that is no name, or a name and something else too.
pub(in super::super) const OTHER: Flags = Flags::WORD
    .or(Flags::PLACE)
    .or(Flags::TAIL)
    .or(Flags::STREET_AFTER)
    .or(Flags::STREET_AFTER_TOO)
    .or(Flags::STREET_BEFORE)
    .or(Flags::STREET_BEFORE_TOO);

/// How a whole name is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Title,
    Upper,
    Lower,
}

impl Case {
    /// How a name that begins with this word would be written; none if no name begins here.
    pub(super) fn of(page: &Page<'_>, index: usize) -> Option<Case> {
        match page.shape(index)? {
            Shape::Title | Shape::Initial => Some(Case::Title),
            Shape::Upper => Some(Case::Upper),
            Shape::Lower => Some(Case::Lower),
            Shape::Number | Shape::Code => None,
        }
    }

    fn fits(self, shape: Option<Shape>) -> bool {
        let own = match self {
            Case::Title => Shape::Title,
            Case::Upper => Shape::Upper,
            Case::Lower => Shape::Lower,
        };
        shape == Some(own)
    }
}

/// How far a name is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Names, and words that nothing is known of.
    Narrow,
    /// A plain word too where a family name can stand: `Nicole Ho`, `june miller`.
    Wide,
}

/// A run of words that may be a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) case: Case,
    /// Words that are no initials and particles.
    pub(super) names: usize,
    pub(super) has_initial: bool,
    /// `Lee, Ann`.
    pub(super) is_surname_first: bool,
    /// A capitalised word that is no name follows in the same breath: `Grace Period`.
    pub(super) goes_on: bool,
    /// A plain word was taken for a name: only a strong cue makes it one.
    pub(super) is_wide: bool,
}

impl Name {
    fn of_one(page: &Page<'_>, first: usize, case: Case) -> Name {
        let is_initial = page.shape(first) == Some(Shape::Initial);
        Name {
            first,
            last: first,
            case,
            names: usize::from(!is_initial),
            has_initial: is_initial,
            is_surname_first: false,
            goes_on: false,
            is_wide: false,
        }
    }
}

/// Whether the word at `first` can be the first of a name.
pub(super) fn may_begin(page: &Page<'_>, first: usize, case: Case) -> bool {
    let Some(word) = page.word(first) else { return false };
    let is_name = word.flags.any(NAME);
    let is_other = word.flags.any(OTHER.or(Flags::TITLE));
    let may = match word.shape {
        Shape::Title => is_name || !is_other,
        Shape::Upper => is_name || (!is_other && page.written(first).len() > 2),
        Shape::Initial => begins_with_initials(page, first),
        Shape::Lower if is_name => !is_contraction(page, first),
        Shape::Lower if word.flags.any(Flags::PARTICLE) => {
            page.shape(first + 1) == Some(Shape::Title) || page.is(first + 1, Flags::PARTICLE)
        }
        // An unknown word before a known name.
        Shape::Lower => {
            !is_other
                && page.is(first + 1, NAME)
                && page.gap(first + 1) == Gap::Space
                && case.fits(page.shape(first + 1))
        }
        Shape::Number | Shape::Code => false,
    };
    may && !is_identifier(page, first)
}

/// Handles, tags and identifiers are no prose.
fn is_identifier(page: &Page<'_>, first: usize) -> bool {
    let before = page.before(first);
    before.ends_with(['@', '#', '_', '$', '&', '/']) || (before.ends_with('\\') && page.gap(first) != Gap::Line)
}

/// `don't`.
fn is_contraction(page: &Page<'_>, index: usize) -> bool {
    page.gap(index + 1) == Gap::Apostrophe && page.written(index + 1) == "t"
}

/// `J. Smith`, `J.R.R. Tolkien`, `O'Neil`.
fn begins_with_initials(page: &Page<'_>, first: usize) -> bool {
    let mut at = first + 1;
    while page.shape(at) == Some(Shape::Initial)
        && matches!(page.gap(at), Gap::Dot | Gap::Stop | Gap::Space)
        && at < first + 4
    {
        at += 1;
    }
    let links = matches!(page.gap(at), Gap::Dot | Gap::Stop | Gap::Apostrophe);
    links && page.shape(at) == Some(Shape::Title)
}

/// The longest name from `first` on.
pub(super) fn read(page: &Page<'_>, first: usize, case: Case, reading: Reading) -> Option<Name> {
    let mut name = Name::of_one(page, first, case);
    let opens_with_particle =
        page.is(first, Flags::PARTICLE) && page.shape(first) == Some(Shape::Lower) && !page.is(first, NAME);
    if opens_with_particle {
        // `van der Berg` alone.
        name.case = Case::Title;
        name.is_wide = true;
        name.last = joined_by(page, &name, first)?;
    } else if case == Case::Lower && (!page.is(first, NAME) || page.is(first, OTHER)) {
        name.is_wide = true;
    }
    if name.is_wide && reading == Reading::Narrow {
        return None;
    }
    let mut at = name.last + 1;
    while at < page.len() && at - first < WORDS {
        match part_at(page, &name, at) {
            Part::Name => {
                let is_half =
                    matches!(page.gap(at), Gap::Hyphen | Gap::Apostrophe) && page.shape(at - 1) != Some(Shape::Initial);
                name.names += usize::from(!is_half);
            }
            Part::Initial => name.has_initial = true,
            Part::Particle => {
                // A particle counts only with what it joins.
                let Some(joined) = joined_by(page, &name, at) else {
                    break;
                };
                at = joined;
                name.names += 1;
            }
            Part::Suffix => {
                name.last = at;
                break;
            }
            Part::None if reading == Reading::Wide && is_wide_part(page, &name, at) => {
                name.is_wide = true;
                name.names += 1;
            }
            Part::None => break,
        }
        name.last = at;
        at += 1;
    }
    drop_last_initial(page, &mut name);
    name.goes_on = goes_on(page, &name);
    (name.names > 0 && (reading == Reading::Narrow || name.is_wide)).then_some(name)
}

/// An initial at the end, without a stop, before more words is none: `Plan Anna B of …`, `Anna d'accord`.
fn drop_last_initial(page: &Page<'_>, name: &mut Name) {
    while page.shape(name.last) == Some(Shape::Initial)
        && name.last > name.first
        && matches!(page.gap(name.last + 1), Gap::Space | Gap::Apostrophe)
    {
        name.last -= 1;
    }
}

/// `Lee, Ann`, `de la Cruz, Ana M.`: a family name, a comma, and given names to the end of the field.
pub(super) fn surname_first(page: &Page<'_>, first: usize, case: Case) -> Option<Name> {
    let case = if page.is(first, Flags::PARTICLE) {
        Case::Title
    } else {
        case
    };
    let mut comma = first + 1;
    while page.gap(comma) != Gap::Comma {
        let is_joined = matches!(page.gap(comma), Gap::Space | Gap::Hyphen | Gap::Apostrophe);
        let is_part = page.is(comma, Flags::PARTICLE) || case.fits(page.shape(comma));
        if !is_joined || !is_part || comma > first + 3 {
            return None;
        }
        comma += 1;
    }
    let family_last = comma - 1;
    let is_family = page.is(family_last, Flags::FAMILY) || !page.is(family_last, NAME.or(OTHER));
    let given = page.word(comma)?;
    let is_unknown = !given.flags.any(NAME.or(OTHER));
    let is_given = (given.flags.any(Flags::GIVEN) || is_unknown) && !given.flags.any(Flags::PLACE);
    let is_field = case.fits(Some(given.shape)) && page.before(comma) == ", ";
    if !is_family || page.is(first, Flags::GREETING) || !is_given || !is_field {
        return None;
    }
    let mut name = Name {
        last: comma,
        names: 2,
        is_surname_first: true,
        // In a list of fields only what comes after can tell.
        is_wide: is_unknown || (first > 0 && page.gap(first) == Gap::Comma),
        ..Name::of_one(page, first, case)
    };
    loop {
        let next = name.last + 1;
        let is_second = page.gap(next) == Gap::Space && page.is(next, Flags::GIVEN) && case.fits(page.shape(next));
        if !is_second && !matches!(part_at(page, &name, next), Part::Initial) {
            break;
        }
        name.last = next;
    }
    // A list of given names has more commas, and no other word goes on after them.
    let next = name.last + 1;
    let is_list = page.gap(next) == Gap::Comma && page.is(next, Flags::GIVEN);
    let goes_on = page.gap(next) == Gap::Space && page.shape(next) == Some(Shape::Title);
    (!is_list && !goes_on).then_some(name)
}

enum Part {
    Name,
    Initial,
    Particle,
    Suffix,
    None,
}

/// What the word at `at` is to the name before it.
fn part_at(page: &Page<'_>, name: &Name, at: usize) -> Part {
    let Some(word) = page.word(at) else { return Part::None };
    let follows_initial = page.shape(at - 1) == Some(Shape::Initial);
    let is_linked = match word.gap {
        Gap::Space => true,
        Gap::Hyphen | Gap::Apostrophe => !page.written(at).eq_ignore_ascii_case("s"),
        Gap::Stop | Gap::Dot => follows_initial,
        _ => false,
    };
    let is_suffix = name.names > 1 && matches!(page.folded(at).as_str(), "jr" | "sr" | "ii" | "iii");
    if is_suffix && (is_linked || word.gap == Gap::Comma) {
        return Part::Suffix;
    }
    if !is_linked {
        return Part::None;
    }
    if word.shape == Shape::Initial {
        return if name.case == Case::Lower {
            Part::None
        } else {
            Part::Initial
        };
    }
    if word.flags.any(Flags::PARTICLE) && matches!(word.gap, Gap::Space | Gap::Stop) {
        return Part::Particle;
    }
    let is_name = word.flags.any(NAME);
    let is_other = word.flags.any(OTHER);
    // `Jean-luc`.
    let is_second_half = word.gap == Gap::Hyphen && word.shape == Shape::Lower && name.case == Case::Title && is_name;
    // `MARCO O'Neill`.
    let is_after_elision = word.gap == Gap::Apostrophe && follows_initial && word.shape == Shape::Title;
    let fits = name.case.fits(Some(word.shape)) || is_second_half || is_after_elision;
    // In lower case only names that are nothing else go on.
    let is_sure = if name.case == Case::Lower {
        is_name && !is_other
    } else {
        is_name || !is_other
    };
    if fits && is_sure { Part::Name } else { Part::None }
}

/// A plain word, written as the name before it, where a family name can stand.
fn is_wide_part(page: &Page<'_>, name: &Name, at: usize) -> bool {
    let Some(word) = page.word(at) else { return false };
    let follows_initial = page.shape(at - 1) == Some(Shape::Initial);
    let is_linked = word.gap == Gap::Space || (word.gap == Gap::Stop && follows_initial);
    let closes = page.gap(at + 1) != Gap::Space || page.shape(at + 1) != Some(Shape::Lower);
    let is_possible = match name.case {
        Case::Lower => word.flags.any(NAME) || (closes && !word.flags.any(OTHER)),
        Case::Title | Case::Upper => {
            name.names == 1 && page.is(name.first, Flags::GIVEN) && !page.is(name.first, OTHER)
        }
    };
    is_linked && is_possible && name.case.fits(Some(word.shape))
}

/// The word that particles from `at` on lead to, if it is a name.
fn joined_by(page: &Page<'_>, name: &Name, mut at: usize) -> Option<usize> {
    for _ in 0..2 {
        at += 1;
        let is_linked = matches!(page.gap(at), Gap::Space | Gap::Apostrophe | Gap::Hyphen);
        let word = page.word(at).filter(|_| is_linked)?;
        let is_name = word.flags.any(NAME) || (name.case != Case::Lower && !word.flags.any(OTHER));
        if name.case.fits(Some(word.shape)) && is_name {
            return Some(at);
        }
        if !word.flags.any(Flags::PARTICLE) {
            return None;
        }
    }
    None
}

/// Whether a capitalised word that is no name follows: the run is a heading, a firm or a place.
fn goes_on(page: &Page<'_>, name: &Name) -> bool {
    let next = name.last + 1;
    matches!(page.gap(next), Gap::Space | Gap::Hyphen)
        && matches!(
            page.shape(next),
            Some(Shape::Title | Shape::Upper | Shape::Code | Shape::Number)
        )
        && !matches!(
            page.folded(next).as_str(),
            "i" | "md" | "phd" | "esq" | "dds" | "rn" | "mba"
        )
}
