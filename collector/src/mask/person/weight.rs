//! How much the words of a name weigh, and what right beside it speaks against a person.

use super::name::{Case, NAME, Name, OTHER};
use crate::mask::lexicon::Flags;
use crate::mask::word::{Gap, Page, Shape};

/// What words must weigh to be a name without a cue.
pub(super) const ENOUGH: i32 = 6;

/// Ends of family names of several languages.
const FAMILY_ENDS: &[&str] = &[
    "ova", "eva", "ovic", "evic", "ovich", "evich", "enko", "wski", "wska", "cki", "cka", "ski", "ska", "sky", "skaya",
    "skiy", "wicz", "czyk", "escu", "poulos", "opoulou", "akis", "idis", "iadis", "shvili", "adze", "sson", "sdottir",
    "inen", "anen", "onen", "oglu", "zadeh", "nejad", "yan", "ian", "ov", "ev", "uk", "yuk", "chuk", "ez", "mann",
    "stein", "sen", "elli", "etti", "ucci", "ella", "ini", "eau", "ault", "gaard", "quist", "qvist", "strom", "gren",
    "lund",
];

impl Name {
    /// The evidence that its words give.
    pub(super) fn weight(&self, page: &Page<'_>) -> i32 {
        if self.is_surname_first {
            let family = page.word(self.first).map_or(Flags::NONE, |word| word.flags);
            let doubt = i32::from(family.any(Flags::GIVEN)) + i32::from(family.any(OTHER)) * 2;
            return ENOUGH + 1 - doubt * 2;
        }
        let first = (self.first..=self.last)
            .find(|index| page.shape(*index) != Some(Shape::Initial))
            .unwrap_or(self.first);
        if self.names < 2 {
            return if self.has_initial {
                2 + last_weight(page, first)
            } else {
                alone_weight(page, first)
            };
        }
        let between = (first + 1..self.last).filter(|index| page.is(*index, NAME)).count() as i32;
        let mut weight = first_weight(page, first) + last_weight(page, self.last) + between;
        weight += 3 * i32::from(self.has_initial);
        // Headings, shouting, and lower case: each part must be known.
        weight -= i32::from(self.case != Case::Title);
        weight - 2 * i32::from(self.goes_on)
    }

    /// Whether it can be a name where something says that there is one.
    pub(super) fn is_plausible(&self, page: &Page<'_>) -> bool {
        if self.goes_on && (self.is_wide || self.weight(page) < ENOUGH) {
            return false;
        }
        let is_known = self.has_a_known_name(page);
        let is_something_else = (self.first..=self.last).all(|index| page.is(index, OTHER.or(Flags::PARTICLE)));
        let is_long = self.names > 1 || page.written(self.first).len() > 2;
        match self.case {
            Case::Title => is_known || (!is_something_else && is_long),
            Case::Upper => is_known && !is_something_else,
            Case::Lower => is_known && (self.names > 1 || !self.is_wide),
        }
    }

    fn has_a_known_name(&self, page: &Page<'_>) -> bool {
        (self.first..=self.last).any(|index| page.is(index, NAME) && page.shape(index) != Some(Shape::Initial))
    }

    /// Whether a name that is nothing else is among its words.
    pub(super) fn has_a_sure_name(&self, page: &Page<'_>) -> bool {
        (self.first..=self.last).any(|index| {
            page.shape(index) != Some(Shape::Initial)
                && !page.is(index, OTHER)
                && (page.is(index, NAME) || looks_like_family(page, index))
        })
    }

    /// A single given name in prose, which is nothing else and does what persons do.
    pub(super) fn stands_alone(&self, page: &Page<'_>) -> bool {
        if self.has_initial {
            return self.weight(page) >= ENOUGH;
        }
        let is_name = page.is(self.first, Flags::GIVEN) && !page.is(self.first, OTHER);
        is_name
            && self.case == Case::Title
            && !self.goes_on
            && page.written(self.first).len() > 2
            && is_free_before(page, self.first)
            && is_followed_as_a_person(page, self.last)
    }

    /// Part of a text in capitals, or of lower case that only looks like names.
    pub(super) fn is_shouted(&self, page: &Page<'_>) -> bool {
        let is_upper = |index: usize| page.shape(index) == Some(Shape::Upper);
        match self.case {
            Case::Title => false,
            Case::Upper => {
                let next = self.last + 1;
                let goes_before = self.first > 0 && page.gap(self.first) == Gap::Space && is_upper(self.first - 1);
                self.names > 3 || goes_before || (page.gap(next) == Gap::Space && is_upper(next))
            }
            Case::Lower => {
                let is_short = |index: usize| page.written(index).len() < 3 && !page.is(index, Flags::PARTICLE);
                !(2..=3).contains(&self.names) || (self.first..=self.last).any(is_short)
            }
        }
    }

    /// `Lake Charles`, `… Street`, `… Inc`.
    pub(super) fn is_part_of_a_place(&self, page: &Page<'_>) -> bool {
        let next = self.last + 1;
        let is_tail = page.is(next, Flags::TAIL.or(Flags::STREET_AFTER).or(Flags::STREET_AFTER_TOO))
            && matches!(page.gap(next), Gap::Space | Gap::Hyphen)
            && page.shape(next) == Some(Shape::Title);
        let is_head = self.first > 0
            && matches!(page.gap(self.first), Gap::Space | Gap::Stop)
            && page.shape(self.first - 1) == Some(Shape::Title)
            && page.is(self.first - 1, Flags::HEAD);
        is_tail || is_head
    }
}

/// The weight of a name of one word.
fn alone_weight(page: &Page<'_>, index: usize) -> i32 {
    let is_family_alone = page.is(index, Flags::FAMILY) && !page.is(index, Flags::GIVEN.or(OTHER));
    if is_family_alone { 4 } else { first_weight(page, index) }
}

fn first_weight(page: &Page<'_>, index: usize) -> i32 {
    let Some(word) = page.word(index) else { return 0 };
    let (is_word, is_place) = (word.flags.any(Flags::WORD), word.flags.any(Flags::PLACE));
    let opens_sentence = matches!(word.gap, Gap::Start | Gap::Stop | Gap::Line | Gap::Other);
    match (word.flags.any(Flags::GIVEN), word.flags.any(Flags::FAMILY)) {
        (true, _) if is_word && is_place => 1,
        (true, _) if is_place => 2,
        (true, _) if is_word => 3 - i32::from(opens_sentence),
        (true, _) => 4,
        (false, true) if is_word || is_place => 0,
        (false, true) => 2,
        (false, false) => 1 + i32::from(looks_like_family(page, index)),
    }
}

fn last_weight(page: &Page<'_>, index: usize) -> i32 {
    let Some(word) = page.word(index) else { return 0 };
    let is_other = word.flags.any(OTHER);
    match (word.flags.any(Flags::GIVEN), word.flags.any(Flags::FAMILY)) {
        (_, true) if !is_other => 4,
        (_, true) if word.flags.any(Flags::COMMON) && !word.flags.any(Flags::PLACE) => 3,
        (_, true) => 2,
        (true, false) if !is_other => 3,
        (true, false) => 1,
        (false, false) => 2 + 2 * i32::from(looks_like_family(page, index)),
    }
}

/// An unknown word that ends as family names do.
fn looks_like_family(page: &Page<'_>, index: usize) -> bool {
    let is_unknown = page.shape(index) == Some(Shape::Title) && !page.is(index, NAME.or(OTHER));
    if !is_unknown {
        return false;
    }
    let folded = page.folded(index);
    let word = folded.as_str();
    FAMILY_ENDS
        .iter()
        .any(|end| word.len() >= end.len() + 3 && word.ends_with(end))
}

/// No article, number or name-like word right before it.
fn is_free_before(page: &Page<'_>, first: usize) -> bool {
    let Some(previous) = first.checked_sub(1) else {
        return true;
    };
    match page.gap(first) {
        Gap::Space => {
            let is_prose = page.shape(previous) == Some(Shape::Lower) || page.is(previous, Flags::WORD);
            is_prose && !page.is(previous, Flags::DETERMINER)
        }
        Gap::Hyphen | Gap::Dot | Gap::Apostrophe => false,
        Gap::Other => page.before(first).ends_with([' ', '"', '(', '“', '‘', '\'', '>', '\t']),
        _ => true,
    }
}

/// Punctuation, a possessive, or a word that goes with persons; a noun would make the name half of a compound.
fn is_followed_as_a_person(page: &Page<'_>, last: usize) -> bool {
    let next = last + 1;
    match page.gap(next) {
        Gap::Space => {
            let folded = page.folded(next);
            let word = folded.as_str();
            let is_form_of_a_verb = word.len() > 4 && (word.ends_with("ed") || word.ends_with("ly"));
            page.shape(next) == Some(Shape::Lower) && (is_form_of_a_verb || page.is(next, Flags::GOES_WITH_PERSONS))
        }
        Gap::Apostrophe => page.written(next) == "s",
        Gap::Hyphen | Gap::Dot => false,
        Gap::Other => {
            let after = page.after(last);
            after.is_empty()
                || after.starts_with([',', '.', ';', '!', '?', ')', '"', '\'', '’', '”', ' ', ':', '<', '\n'])
        }
        _ => true,
    }
}
