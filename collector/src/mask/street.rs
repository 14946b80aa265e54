//! Street addresses: a house number and a street's name with the kind of street, then unit, town and postal code.
//!
//! Knows how addresses are written in English (also of Britain, Australia and India), German, Dutch, Nordic, Slavic,
//! Hungarian and Romance languages. A town by itself stays.

mod core;
mod number;
mod tail;

use self::core::{Core, Need};

pub(super) use self::core::ANY_KIND;
use super::hit::Hit;
use super::kind::Kind;
use super::lexicon::Flags;
use super::word::{Gap, Page, Role, Shape};

/// Words that may stand between a cue and its address.
const REACH: usize = 6;

/// Finds the addresses on a page; `label` is what the whole text stands under.
pub(super) fn find(page: &Page<'_>, label: &str, hits: &mut Vec<Hit>) {
    let mut next = 0;
    for index in page.places(Role::STREET) {
        if index < next {
            continue;
        }
        let Some(core) = core::at(page, index).filter(|core| core.first >= next) else {
            continue;
        };
        let tail = tail::read(page, core.last);
        if is_address(page, &core, &tail) || names_an_address(label) {
            hits.push(Hit::by_context(
                page.start(core.first),
                page.end(tail.last),
                Kind::StreetAddress,
            ));
            next = tail.last + 1;
        }
    }
}

fn is_address(page: &Page<'_>, core: &Core, tail: &tail::Tail) -> bool {
    match core.needs {
        Need::Nothing => true,
        Need::More => tail.is_address || follows_a_cue(page, core.first, false),
        Need::Much => tail.is_certain || follows_a_cue(page, core.first, true),
    }
}

/// `billing_address`, `street`, `dirección`; not `email_address`, `ip_address`.
fn names_an_address(label: &str) -> bool {
    let lower = label.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    has(&[
        "address",
        "street",
        "adresse",
        "direcc",
        "endere",
        "indirizzo",
        "strasse",
        "straße",
        "adres",
    ]) && !has(&["mail", "ip", "mac", "url", "host"])
}

/// `lives at`, `address:`, `ship it to`; `closely` lets no names stand between: `the address of Ann to`.
fn follows_a_cue(page: &Page<'_>, first: usize, closely: bool) -> bool {
    let mut at = first;
    for _ in 0..REACH {
        let Some(previous) = at.checked_sub(1) else {
            return false;
        };
        let is_over = page.gap(at) == Gap::Stop || page.before(at).contains(['!', '?', ';']);
        if is_over {
            return false;
        }
        if page.is(previous, Flags::ADDRESS) {
            return true;
        }
        let is_name = !closely && matches!(page.shape(previous), Some(Shape::Title | Shape::Initial));
        if !is_name && !page.is(previous, Flags::LINK) {
            return false;
        }
        at = previous;
    }
    false
}

#[cfg(test)]
mod tests;
