//! The operator's own patterns, and the values that are never masked.

use super::MaskError;
use super::hit::Hit;
use super::kind::Kind;
use regex::Regex;
use std::collections::HashSet;

/// What to mask besides, by its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What to call it in errors. Where it is the name of a [`Kind`], its values are of that kind.
    pub name: String,
    /// A regular expression; where it has a group, the first group is the value, else the whole match.
    pub regex: String,
}

/// Patterns, built for search.
pub(super) struct Patterns(Vec<(Regex, Kind)>);

impl Patterns {
    pub(super) fn new(patterns: &[Pattern]) -> Result<Patterns, MaskError> {
        let build = |pattern: &Pattern| match Regex::new(&pattern.regex) {
            Ok(regex) => Ok((regex, Kind::from_name(&pattern.name).unwrap_or(Kind::Pattern))),
            Err(source) => Err(MaskError::Pattern {
                name: pattern.name.clone(),
                source,
            }),
        };
        Ok(Patterns(patterns.iter().map(build).collect::<Result<_, _>>()?))
    }

    pub(super) fn find(&self, text: &str, hits: &mut Vec<Hit>) {
        for (regex, kind) in &self.0 {
            let has_group = regex.captures_len() > 1;
            let mut add = |found: regex::Match<'_>| {
                if !found.is_empty() {
                    hits.push(Hit::by_context(found.start(), found.end(), *kind));
                }
            };
            if has_group {
                let groups = regex.captures_iter(text).filter_map(|captures| captures.get(1));
                groups.for_each(&mut add);
            } else {
                regex.find_iter(text).for_each(&mut add);
            }
        }
    }
}

/// Values that stay, whatever finds them; case is ignored.
#[derive(Default)]
pub(super) struct Allowed(HashSet<String>);

impl Allowed {
    pub(super) fn new(values: &[String]) -> Allowed {
        Allowed(values.iter().map(|value| value.trim().to_lowercase()).collect())
    }

    pub(super) fn holds(&self, value: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&value.to_lowercase())
    }
}
