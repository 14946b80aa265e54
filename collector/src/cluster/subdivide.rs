//! Sub-templates: one frame whose slots take a few values (`a Bash generator`, `a SQL generator`) is several tasks.
//!
//! Content recurs too, but in many small pieces that never cover a cluster; sub-templates are few, exclude one another
//! and cover nearly all of it.

use super::linkage::{Likeness, average};
use super::units::{Unit, cosine, lead, mean, most, normalise};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Fewer conversations are no sub-template.
const CONVERSATIONS: usize = 10;
/// A smaller share of the cluster's conversations is no sub-template.
const SHARE: f32 = 0.05;
/// Phrases of a larger share are the frame.
const FRAME: f32 = 0.95;
/// Fewer differing phrases are no sub-template.
const PHRASES: usize = 8;
/// Parts less alike than this cosine are versions of a prompt, not fillings of a frame.
const FRAMED: f32 = 0.7;
/// Sub-templates cover at least this share of the cluster's conversations.
const COVERED: f32 = 0.9;
/// Mean likeness, over the slots alone, within one sub-template.
const LIKENESS: f32 = 0.4;

/// Parts of a cluster, as lists of prompts; one part where it has no sub-templates. `units` and `conversations` are of
/// all prompts.
pub(super) fn subdivide(cluster: Vec<usize>, units: &[Unit], conversations: &[usize]) -> Vec<Vec<usize>> {
    let size = |part: &[usize]| part.iter().map(|prompt| conversations[*prompt]).sum::<usize>();
    let total = size(&cluster);
    let least = ((total as f32 * SHARE) as usize).max(CONVERSATIONS);
    if total < 2 * least {
        return vec![cluster];
    }
    let mut parts = fillings(&cluster, units, conversations, least);
    parts.retain(|part| size(part) >= least);
    let covered: usize = parts.iter().map(|part| size(part)).sum();
    let centres: Vec<Unit> = parts
        .iter()
        .map(|part| mean(part.iter().map(|prompt| &units[*prompt])))
        .collect();
    let framed = centres.iter().all(|centre| cosine(&centres[0], centre) >= FRAMED);
    if parts.len() < 2 || !framed || (covered as f32) < total as f32 * COVERED {
        return vec![cluster];
    }
    let inside: HashSet<usize> = parts.iter().flatten().copied().collect();
    for prompt in cluster.into_iter().filter(|prompt| !inside.contains(prompt)) {
        let likeness: Vec<f32> = centres.iter().map(|centre| cosine(centre, &units[prompt])).collect();
        parts[most(&likeness).0].push(prompt);
    }
    parts
}

/// Prompts that are alike in the slots: in the phrases that neither nearly all prompts have nor hardly any.
fn fillings(cluster: &[usize], units: &[Unit], conversations: &[usize], least: usize) -> Vec<Vec<usize>> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for prompt in cluster {
        for (phrase, _) in &units[*prompt] {
            *counts.entry(*phrase).or_default() += conversations[*prompt];
        }
    }
    let total: usize = cluster.iter().map(|prompt| conversations[*prompt]).sum();
    let varies = |phrase: &u32| counts[phrase] >= least && (counts[phrase] as f32) < total as f32 * FRAME;
    let slots = |prompt: &usize| {
        let mut slots: Unit = units[*prompt]
            .iter()
            .filter(|(phrase, _)| varies(phrase))
            .copied()
            .collect();
        if slots.len() < PHRASES {
            slots.clear();
        }
        normalise(&mut slots);
        slots
    };
    let slots: Vec<Unit> = cluster.iter().map(slots).collect();
    let gathered = lead(slots.iter());
    let means: Vec<Unit> = gathered
        .iter()
        .map(|of| mean(of.iter().map(|at| &slots[*at])))
        .collect();
    let size = |of: &Vec<usize>| of.iter().map(|at| conversations[cluster[*at]]).sum::<usize>() as f32;
    let sizes: Vec<f32> = gathered.iter().map(size).collect();
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (of, part) in gathered.iter().zip(average(Likeness::of(&means), &sizes, LIKENESS)) {
        parts.entry(part).or_default().extend(of.iter().map(|at| cluster[*at]));
    }
    parts.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of 40 phrases, ten phrases of the slot's value, and five of content of its own.
    fn prompt(slot: u32, number: u32) -> Unit {
        let phrases = (0..40)
            .chain(100 * slot..100 * slot + 10)
            .chain(1000 + 5 * number..1005 + 5 * number);
        let mut unit = phrases.map(|phrase| (phrase, 1.0)).collect();
        normalise(&mut unit);
        unit
    }

    #[test]
    fn few_values_of_a_slot_are_parts_and_many_are_content() {
        let two: Vec<Unit> = (0..40).map(|number| prompt(1 + number % 2, number)).collect();
        let parts = subdivide((0..40).collect(), &two, &[1; 40]);
        assert_eq!(parts.len(), 2);
        assert!(
            parts
                .iter()
                .all(|part| part.iter().all(|prompt| prompt % 2 == part[0] % 2))
        );
        let many: Vec<Unit> = (0..40).map(|number| prompt(1 + number % 8, number)).collect();
        assert_eq!(subdivide((0..40).collect(), &many, &[1; 40]).len(), 1);
    }
}
