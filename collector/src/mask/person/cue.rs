//! What says that a name stands here: forms of address, greetings, roles, labels, signatures, an e-mail address after it.

use super::label;
use super::name::Name;
use crate::mask::fold::Folded;
use crate::mask::lexicon::Flags;
use crate::mask::word::{Gap, Page, Shape};

/// How much the surroundings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cue {
    None,
    /// A name would not surprise here.
    Hint,
    /// There may well be a name here.
    Weak,
    /// There is a name here.
    Strong,
}

/// What stands before the word at `first`.
pub(super) fn before(page: &Page<'_>, label: &str, first: usize) -> Cue {
    let Some(previous) = first.checked_sub(1) else {
        return label::of(label).max(alone_in_its_line(page, first));
    };
    match page.gap(first) {
        Gap::Space => after_word(page, previous),
        // `Hi, Ann`, `the caller, Ann Lee,`.
        Gap::Comma if is_role(page, previous) || is_greeting(page, previous) => Cue::Strong,
        // `Dr. Lee`.
        Gap::Stop if page.is(previous, Flags::TITLE) && page.written(previous).len() < 7 => Cue::Strong,
        Gap::Line => after_line(page, previous, first),
        Gap::Other | Gap::Comma => label::before(page, first),
        _ => Cue::None,
    }
}

fn after_word(page: &Page<'_>, previous: usize) -> Cue {
    if page.is(previous, Flags::TITLE) {
        let is_address = matches!(page.shape(previous), Some(Shape::Title | Shape::Upper));
        return if is_address { Cue::Strong } else { Cue::Weak };
    }
    if is_role(page, previous) || is_greeting(page, previous) {
        return Cue::Strong;
    }
    let said = if page.written(previous).len() < 10 {
        introduces(page, previous)
    } else {
        Cue::None
    };
    if page.is(previous, Flags::LEAD) {
        said.max(Cue::Weak)
    } else if page.is(previous, Flags::HINT) {
        said.max(Cue::Hint)
    } else {
        said
    }
}

fn is_role(page: &Page<'_>, index: usize) -> bool {
    page.is(index, Flags::ROLE)
}

/// A greeting where one can stand: at the start, or after `Good`.
fn is_greeting(page: &Page<'_>, index: usize) -> bool {
    let follows_good =
        || index > 0 && matches!(page.folded(index - 1).as_str(), "good" | "guten" | "sehr" | "mi" | "so");
    let opens = matches!(
        page.gap(index),
        Gap::Start | Gap::Stop | Gap::Line | Gap::Other | Gap::Comma
    );
    page.is(index, Flags::GREETING) && (opens || follows_good())
}

/// `my name is`, `this is`, `ich heiße`, `the contact is`.
fn introduces(page: &Page<'_>, last: usize) -> Cue {
    let earlier = |back: usize| {
        last.checked_sub(back)
            .map_or(Folded::new(""), |index| page.folded(index))
    };
    let (word, first) = (page.folded(last), earlier(1));
    match (first.as_str(), word.as_str()) {
        ("name", "is" | "was" | "ist" | "es") | ("nom", "est") | ("nombre", "es") | ("nome", "e") | ("naam", "is") => {
            Cue::Strong
        }
        ("me", "llamo" | "chamo") | ("mi", "chiamo") | ("ich", "heisse" | "heiss") | ("m", "appelle") => Cue::Strong,
        ("jag" | "jeg", "heter" | "hedder") | ("nazywam", "sie") | ("call", "me") => Cue::Strong,
        (_, "is" | "was" | "ist" | "est" | "es") if last > 0 && is_role(page, last - 1) => Cue::Strong,
        ("this" | "it", "is") | ("i", "am" | "m") | ("ich", "bin") | ("je", "suis") | ("yo", "soy") | ("eu", "sou") => {
            Cue::Weak
        }
        ("ik", "ben") | (_, "soy" | "sono" | "sou") => Cue::Weak,
        _ => Cue::None,
    }
}

/// A signature: the line after `Regards,`. Else what a label at the end of the line before says, or the line itself.
fn after_line(page: &Page<'_>, previous: usize, first: usize) -> Cue {
    let closes = page.before(first).starts_with([',', '\n', '.', '!', '\r', '\\', ' ']);
    if closes && page.is(previous, Flags::SIGN_OFF) {
        return Cue::Strong;
    }
    label::before(page, first).max(alone_in_its_line(page, first))
}

/// A line of two to four capitalised words, none of them plain: the head of an address, a signature, a list of people.
fn alone_in_its_line(page: &Page<'_>, first: usize) -> Cue {
    let mut count = 1;
    while page.gap(first + count) == Gap::Space && count < 5 {
        count += 1;
    }
    let next = first + count;
    let is_last = next == page.len() && page.text[page.end(next - 1)..].trim().is_empty();
    let closes = is_last || page.gap(next) == Gap::Line;
    let other = Flags::WORD.or(Flags::PLACE).or(Flags::TAIL);
    let is_name_like =
        |index: usize| matches!(page.shape(index), Some(Shape::Title | Shape::Initial)) && !page.is(index, other);
    if closes && page.len() > count && (2..=4).contains(&count) && (first..next).all(is_name_like) {
        Cue::Weak
    } else {
        Cue::None
    }
}

/// Whether the word at `first` goes on a list whose last name ended at `last`: a comma or `and` between them.
pub(super) fn is_listed_with(page: &Page<'_>, last: usize, first: usize) -> bool {
    let is_and = || {
        matches!(
            page.folded(last + 1).as_str(),
            "and" | "und" | "et" | "y" | "e" | "en" | "og" | "och" | "i" | "a" | "ve" | "or"
        )
    };
    match first - last {
        1 => matches!(page.before(first), ", " | " & " | "; "),
        2 => page.gap(first) == Gap::Space && is_and(),
        _ => false,
    }
}

/// What stands after a name.
pub(super) fn after(page: &Page<'_>, name: &Name) -> Cue {
    if is_before_address(page, name.last) {
        return Cue::Strong;
    }
    let next = name.last + 1;
    let gap = page.after(name.last);
    let is_close = gap.len() < 4 && !gap.contains('\n') && gap != " ";
    if is_close && page.is(next, Flags::BIRTH.or(Flags::RECORD).or(Flags::RECORD_OF)) {
        return Cue::Strong;
    }
    match page.folded(next).as_str() {
        "said" | "says" | "told" | "wrote" | "replied" | "asked" | "tells" if gap == " " => Cue::Weak,
        _ => Cue::None,
    }
}

/// `Ann Lee <ann@…`, `Ann Lee (ann@…`, `Ann Lee,ann@…`: an e-mail address in the next field.
fn is_before_address(page: &Page<'_>, last: usize) -> bool {
    let rest = page.text.get(page.end(last)..).unwrap_or_default();
    let field = rest.trim_start_matches([' ', '<', '(', '[', ',', ';', '\t', '|', '"', '\'', ':', '\\']);
    let width = rest.len() - field.len();
    if width == 0 || width > 6 || (rest.starts_with(' ') && width == 1) {
        return false;
    }
    let bytes = field.as_bytes();
    let local = bytes
        .iter()
        .take(64)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(byte))
        .count();
    let host = bytes.get(local + 1);
    local > 0
        && bytes.get(local) == Some(&b'@')
        && host.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80)
}
