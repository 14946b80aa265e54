//! Which phrases are template, and what they weigh.

use super::FitOptions;
use super::prompts::Prompt;
use super::units::{Unit, normalise};
use std::collections::{HashMap, HashSet};

/// For how many phrases the name of a tool counts: names are few, and say more than prose.
const MARK: f32 = 8.0;
/// A prompt that recurs whole is template, if a smaller share of it than one in so many is template already.
const CONSTANT: usize = 5;

/// Template phrases by hash, with their index and weight.
pub(super) struct Vocabulary {
    /// Hash and weight, sorted by hash.
    pub(super) phrases: Vec<(u32, f32)>,
    index: HashMap<u32, u32>,
}

impl Vocabulary {
    /// Phrases that recur over distinct prompts. Repeated trials of one prompt count once, so that its content is not
    /// taken for template; a prompt without any other template that recurs whole is one.
    pub(super) fn of(prompts: &[Prompt], options: &FitOptions) -> Vocabulary {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for phrase in prompts.iter().flat_map(|prompt| &prompt.phrases) {
            *counts.entry(*phrase).or_default() += 1;
        }
        let recurs = |phrase: &u32| counts.get(phrase).is_some_and(|count| *count >= options.min_prompts);
        let mut kept: HashSet<u32> = counts.keys().copied().filter(recurs).collect();
        for prompt in prompts
            .iter()
            .filter(|prompt| prompt.conversations >= options.min_conversations)
        {
            let known = prompt.phrases.iter().filter(|phrase| recurs(phrase)).count();
            if known * CONSTANT < prompt.phrases.len() {
                kept.extend(&prompt.phrases);
            }
        }
        let marks: HashSet<u32> = prompts.iter().flat_map(|prompt| &prompt.marks).copied().collect();
        let weight = |phrase: u32| if marks.contains(&phrase) { MARK.sqrt() } else { 1.0 };
        let mut phrases: Vec<(u32, f32)> = kept.into_iter().map(|phrase| (phrase, weight(phrase))).collect();
        phrases.sort_by_key(|(phrase, _)| *phrase);
        let index = phrases.iter().zip(0u32..).map(|((hash, _), at)| (*hash, at)).collect();
        Vocabulary { phrases, index }
    }

    /// The prompt's template phrases, as indices, sorted.
    pub(super) fn known(&self, prompt: &Prompt) -> Vec<u32> {
        // Sorted because both the prompt's phrases and the vocabulary are sorted by hash.
        prompt
            .phrases
            .iter()
            .filter_map(|phrase| self.index.get(phrase).copied())
            .collect()
    }

    /// The prompt as a unit vector.
    pub(super) fn unit(&self, prompt: &Prompt) -> Unit {
        let mut unit = self
            .known(prompt)
            .into_iter()
            .map(|at| (at, self.phrases[at as usize].1))
            .collect();
        normalise(&mut unit);
        unit
    }

    /// The index of a phrase.
    pub(super) fn at(&self, phrase: u32) -> Option<u32> {
        self.index.get(&phrase).copied()
    }
}
