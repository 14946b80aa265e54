//! Labels of fields that hold names: `customerName`, `Patient:`, `first_name`, `nom`.

use super::cue::Cue;
use crate::mask::fold::Folded;
use crate::mask::lexicon::{Flags, Lexicon};
use crate::mask::word::{Gap, Page, Shape};

/// What a label as a whole says of its value.
pub(super) fn of(label: &str) -> Cue {
    let mut strongest = Cue::None;
    let mut of_name = Cue::Weak;
    for part in (Parts { rest: label }) {
        let flags = Lexicon::shared().flags_of(part);
        let folded = Folded::new(part);
        let says = match folded.as_str() {
            "first" | "last" | "full" | "given" | "family" | "middle" | "legal" => {
                of_name = Cue::Strong;
                Cue::None
            }
            "name" => of_name,
            _ if flags.any(Flags::LABEL_OF_THINGS) => return Cue::None,
            _ if flags.any(Flags::LABEL) => Cue::Strong,
            _ if flags.any(Flags::LABEL_OF_NAMES) => Cue::Weak,
            _ => Cue::None,
        };
        strongest = strongest.max(says);
    }
    strongest
}

/// What the label right before the word at `first` says: `Name: `, `"name":"`, `name=`, `<name>`.
pub(super) fn before(page: &Page<'_>, first: usize) -> Cue {
    let gap = page.before(first);
    let is_label =
        gap.len() < 12 && gap.contains([':', '=', '>', '：']) && !gap.contains("\n\n") && !gap.contains("//");
    if !is_label {
        return Cue::None;
    }
    let last = first - 1;
    let mut from = last;
    while from > 0 && last - from < 3 {
        let is_joined =
            matches!(page.gap(from), Gap::Space | Gap::Hyphen) || matches!(page.before(from), "_" | "/" | "'");
        let is_word = page.shape(from - 1).is_some_and(|shape| shape != Shape::Number);
        if !is_joined || !is_word {
            break;
        }
        from -= 1;
    }
    of(&page.text[page.start(from)..page.end(last)])
}

/// The words of a label: camel case, underscores and spaces part them.
struct Parts<'t> {
    rest: &'t str,
}

impl<'t> Iterator for Parts<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let start = self.rest.find(char::is_alphanumeric)?;
        let word = &self.rest[start..];
        let mut was_lower = false;
        let end = word
            .char_indices()
            .find(|(_, letter)| {
                let is_new = was_lower && letter.is_uppercase();
                was_lower = letter.is_lowercase();
                is_new || !letter.is_alphanumeric()
            })
            .map_or(word.len(), |(at, _)| at);
        self.rest = &word[end..];
        Some(&word[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_they_hold() {
        for label in [
            "customerName",
            "first_name",
            "Patient",
            "account holder",
            "Nachname",
            "full name",
            "lastName",
        ] {
            assert_eq!(of(label), Cue::Strong, "{label}");
        }
        for label in ["name", "assignee", "userName", "From"] {
            assert_eq!(of(label), Cue::Weak, "{label}");
        }
        for label in ["file_name", "customer_id", "hostname", "Patient status", "", "x"] {
            assert_eq!(of(label), Cue::None, "{label}");
        }
    }
}
