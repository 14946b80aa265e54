//! Operator dictionaries: whole words only.
//!
//! An entry inside a longer word stays, except in scripts that are written without spaces. Dictionaries are indexed by
//! their entries' first words; what begins with no such word goes into an automaton.

mod index;

use super::MaskError;
use super::hit::Hit;
use super::kind::Kind;
use super::scene::{Scene, has_no_spaces, is_escape_letter};
use aho_corasick::{AhoCorasick, MatchKind};
use index::Index;

/// A list of values to mask, whatever they look like.
#[derive(Clone, Debug)]
pub struct Dictionary {
    /// What to call it in errors.
    pub name: String,
    /// What its entries are; [`Kind::Dictionary`] if nothing narrower.
    pub kind: Kind,
    /// The values. Empty ones and surrounding white space are passed over.
    pub entries: Vec<String>,
    /// Whether `acme` is found where the entry is `Acme`.
    pub ignore_case: bool,
}

/// Dictionaries, built for search.
pub(super) struct Dictionaries {
    indexes: Vec<Index>,
    automata: Vec<Automaton>,
}

struct Automaton {
    search: AhoCorasick,
    /// Kind of each pattern.
    kinds: Vec<Kind>,
}

impl Dictionaries {
    pub(super) fn new(dictionaries: &[Dictionary]) -> Result<Dictionaries, MaskError> {
        let mut exact = Vec::new();
        let mut any_case = Vec::new();
        for dictionary in dictionaries {
            let entries = dictionary
                .entries
                .iter()
                .map(|entry| entry.trim())
                .filter(|entry| !entry.is_empty());
            for entry in entries {
                if dictionary.ignore_case {
                    // The automaton folds ASCII; letters beyond it are folded here.
                    any_case.push((entry.to_owned(), dictionary.kind));
                    if !entry.is_ascii() {
                        any_case.push((entry.to_lowercase(), dictionary.kind));
                        any_case.push((entry.to_uppercase(), dictionary.kind));
                    }
                } else {
                    exact.push((entry.to_owned(), dictionary.kind));
                }
            }
        }
        let names = || {
            dictionaries
                .iter()
                .map(|dictionary| dictionary.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut built = Dictionaries {
            indexes: Vec::new(),
            automata: Vec::new(),
        };
        for (entries, ignore_case) in [(exact, false), (any_case, true)] {
            let (indexed, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(entry, _)| Index::takes(entry));
            if !indexed.is_empty() {
                let index = Index::new(indexed, ignore_case).ok_or_else(|| MaskError::TooLarge { names: names() })?;
                built.indexes.push(index);
            }
            let automaton = Automaton::new(others, ignore_case);
            built
                .automata
                .extend(automaton.map_err(|source| MaskError::Dictionary { names: names(), source })?);
        }
        Ok(built)
    }

    pub(super) fn find(&self, scene: &Scene<'_>, hits: &mut Vec<Hit>) {
        for index in &self.indexes {
            index.find(scene.text, hits);
        }
        for automaton in &self.automata {
            automaton.find(scene.text, hits);
        }
    }
}

impl Automaton {
    fn new(entries: Vec<(String, Kind)>, ignore_case: bool) -> Result<Option<Automaton>, aho_corasick::BuildError> {
        if entries.is_empty() {
            return Ok(None);
        }
        let (patterns, kinds): (Vec<String>, Vec<Kind>) = entries.into_iter().unzip();
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(ignore_case)
            .build(&patterns)?;
        Ok(Some(Automaton { search, kinds }))
    }

    /// Overlapping search: a longer entry that ends inside a word must not hide a shorter one that doesn't.
    fn find(&self, text: &str, hits: &mut Vec<Hit>) {
        for found in self.search.find_overlapping_iter(text) {
            if is_whole_word(text, found.start(), found.end()) {
                hits.push(Hit::sure(
                    found.start(),
                    found.end(),
                    self.kinds[found.pattern().as_usize()],
                ));
            }
        }
    }
}

/// Whether what stands there is no part of a longer word.
pub(super) fn is_whole_word(text: &str, start: usize, end: usize) -> bool {
    let inside = (text[start..].chars().next(), text[..end].chars().next_back());
    let before = text[..start]
        .chars()
        .next_back()
        .filter(|_| start == 0 || !is_escape_letter(text.as_bytes(), start - 1));
    let after = text[end..].chars().next();
    !is_joined(before, inside.0) && !is_joined(inside.1, after)
}

/// Whether two neighbours belong to one word.
fn is_joined(left: Option<char>, right: Option<char>) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() && !has_no_spaces(letter);
    left.is_some_and(is_word) && right.is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(entries: &[&str], ignore_case: bool, text: &str) -> Vec<String> {
        let entries = entries.iter().map(|entry| (*entry).to_owned()).collect();
        let dictionary = Dictionary {
            name: "names".to_owned(),
            kind: Kind::Person,
            entries,
            ignore_case,
        };
        let mut hits = Vec::new();
        Dictionaries::new(&[dictionary])
            .unwrap()
            .find(&Scene::new(text, ""), &mut hits);
        super::super::hit::settle(text, &mut hits);
        hits.iter().map(|hit| text[hit.start..hit.end].to_owned()).collect()
    }

    #[test]
    fn whole_words_only() {
        assert_eq!(
            found(&["Ann", "Ann Lee"], false, "Ann Leeds, Ann Lee; Anna, MaryAnn"),
            ["Ann", "Ann Lee"]
        );
        assert_eq!(found(&["Ann"], false, "x\\nAnn\\n"), ["Ann"]);
        assert_eq!(found(&["田中"], false, "こんにちは田中さん"), ["田中"]);
        assert!(found(&["", " "], true, "nothing").is_empty());
    }

    #[test]
    fn case_is_kept_or_not_as_asked() {
        assert_eq!(found(&["Jörg"], true, "jörg JÖRG Jörg"), ["jörg", "JÖRG", "Jörg"]);
        assert_eq!(found(&["Acme"], false, "acme Acme"), ["Acme"]);
    }

    proptest::proptest! {
        /// The index finds what an automaton over the same entries finds.
        #[test]
        fn index_and_automaton_agree(
            entries in proptest::collection::vec("[abA]{1,3}([ -][abA]{1,2}){0,2}[.]?", 1..12),
            text in "([abA]{1,3}[ .,-]{0,2}|\\\\n){0,12}",
            ignore_case in proptest::bool::ANY,
        ) {
            let sorted = |mut hits: Vec<Hit>| {
                hits.sort_by_key(|hit| (hit.start, hit.end));
                hits.dedup_by_key(|hit| (hit.start, hit.end));
                hits.into_iter().map(|hit| (hit.start, hit.end)).collect::<Vec<_>>()
            };
            let entries: Vec<(String, Kind)> = entries.into_iter().map(|entry| (entry, Kind::Dictionary)).collect();
            let (mut by_index, mut by_automaton) = (Vec::new(), Vec::new());
            Index::new(entries.clone(), ignore_case).unwrap().find(&text, &mut by_index);
            Automaton::new(entries, ignore_case).unwrap().unwrap().find(&text, &mut by_automaton);
            proptest::prop_assert_eq!(sorted(by_index), sorted(by_automaton));
        }
    }

    #[test]
    fn hundred_thousand_entries() {
        let entries: Vec<String> = (0..100_000).map(|number| format!("customer{number}")).collect();
        let borrowed: Vec<&str> = entries.iter().map(String::as_str).collect();
        assert_eq!(
            found(&borrowed, true, "to Customer99999, and customer1000000"),
            ["Customer99999"]
        );
    }
}
