//! Names of persons: by lists of names, by the words around them, and by the labels they stand under.
//!
//! Every name-like run of words is weighed: what its words are known for, and what stands before and after it. A word
//! that is a name and something else too (`Will`, `Jordan`) is a person only beside another name or after a cue.

mod cue;
mod label;
mod name;
mod weight;

use super::hit::Hit;
use super::kind::Kind;
use super::lexicon::{Flags, Lexicon};
use super::word::{Page, Role, Shape};
use cue::Cue;
use name::{Case, Name, Reading};

pub(super) use name::{NAME, OTHER};

/// Finds the names on a page; `label` is what the whole text stands under.
pub(super) fn find(page: &Page<'_>, label: &str, hits: &mut Vec<Hit>) {
    let mut last: Option<usize> = None;
    for at in page.places(Role::PERSON) {
        if last.is_some_and(|last| at <= last) {
            continue;
        }
        if let Some(name) = Case::of(page, at).and_then(|case| name_at(page, label, at, case, last)) {
            hits.push(Hit::by_context(
                page.start(name.first),
                page.end(name.last),
                Kind::Person,
            ));
            last = Some(name.last);
        }
    }
}

/// What to look for elsewhere once a name is known: the whole, and each part that is nothing else.
pub(super) fn parts(name: &str) -> Vec<&str> {
    let page = Page::new(name, Lexicon::shared());
    let other = OTHER.or(Flags::TITLE).or(Flags::PARTICLE);
    let is_telling = |index: &usize| {
        let is_long = page.written(*index).chars().nth(3).is_some();
        is_long && !page.is(*index, other) && matches!(page.shape(*index), Some(Shape::Title | Shape::Upper))
    };
    let telling = (0..page.len()).filter(is_telling).map(|index| page.written(index));
    telling.chain((page.len() > 1).then_some(name)).collect()
}

/// The name that begins with the word at `first`; the name before it ended with the word at `last`.
fn name_at(page: &Page<'_>, label: &str, first: usize, case: Case, last: Option<usize>) -> Option<Name> {
    if !name::may_begin(page, first, case) {
        return None;
    }
    let mut before = cue::before(page, label, first);
    if last.is_some_and(|last| cue::is_listed_with(page, last, first)) {
        before = before.max(Cue::Weak);
    }
    // The last is the narrowest; the wider ones hold only where a cue is strong or they weigh enough.
    let readings = [
        name::surname_first(page, first, case),
        name::read(page, first, case, Reading::Wide),
        name::read(page, first, case, Reading::Narrow),
    ];
    let is_name = |name: &Name| is_person(page, name, before.max(cue::after(page, name)));
    readings.into_iter().flatten().find(is_name)
}

/// Weighs a name against what is around it.
fn is_person(page: &Page<'_>, name: &Name, cue: Cue) -> bool {
    if name.is_part_of_a_place(page) {
        return false;
    }
    if cue == Cue::Strong {
        return name.is_plausible(page);
    }
    let weight = name.weight(page);
    match cue {
        _ if name.is_wide || name.is_shouted(page) => false,
        Cue::Strong | Cue::Weak => weight + 3 >= weight::ENOUGH && name.has_a_sure_name(page),
        Cue::Hint | Cue::None if name.names == 1 => name.stands_alone(page),
        Cue::Hint => weight + 1 >= weight::ENOUGH,
        Cue::None => weight >= weight::ENOUGH,
    }
}

#[cfg(test)]
mod tests;
